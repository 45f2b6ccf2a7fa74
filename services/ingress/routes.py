"""The webhook routes: which secret belongs to a path, and who reads the delivery."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import MappingProxyType

from services.providers import openphone, shopify, standard_webhooks, stripe
from services.providers.delivery import Delivery

Read = Callable[[Mapping[str, str], bytes, Sequence[bytes], datetime], Delivery]

PREFIX = "/webhooks/"
MAX_PATH = 1024
"""Characters. Past 65,534 bytes the HTTP parser of granian answers 414 itself, without a body."""

_READERS: Mapping[str, tuple[Read, frozenset[str]]] = MappingProxyType(
    {
        "shopify": (shopify.read_shopify_delivery, shopify.IDENTIFYING_HEADERS),
        "stripe": (stripe.read_stripe_delivery, stripe.IDENTIFYING_HEADERS),
        "openphone": (openphone.read_openphone_delivery, openphone.IDENTIFYING_HEADERS),
    }
)


@dataclass(frozen=True, slots=True)
class Route:
    """A webhook address. ``secret_name`` is the shop's secret that must have signed.

    ``identifying`` are the headers that must not come twice with different values.
    """

    provider: str
    slug: str
    secret_name: str
    read: Read
    identifying: frozenset[str]


def find_route(path: str) -> Route | None:
    """Return the route that ``path`` names, or None. The request names the shop, never the secret."""
    if len(path) > MAX_PATH:
        return None
    match path.removeprefix(PREFIX).split("/"):
        case ["standard", slug, source] if slug and source:
            provider = f"standard:{source}"
            read = partial(standard_webhooks.read_standard_delivery, provider=provider)
            identifying = standard_webhooks.IDENTIFYING_HEADERS
            return Route(provider, slug, f"standard-webhook:{source}", read, identifying)
        case [provider, slug] if slug and provider in _READERS:
            return Route(provider, slug, f"{provider}-webhook", *_READERS[provider])
        case _:
            return None
