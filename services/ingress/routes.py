"""The webhook routes: which secret belongs to a path, and who reads the delivery."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import MappingProxyType

from services.providers.delivery import Delivery
from services.providers.openphone import read_openphone_delivery
from services.providers.shopify import read_shopify_delivery
from services.providers.standard_webhooks import read_standard_delivery
from services.providers.stripe import read_stripe_delivery

Read = Callable[[Mapping[str, str], bytes, Sequence[bytes], datetime], Delivery]

PREFIX = "/webhooks/"
_READERS: Mapping[str, Read] = MappingProxyType(
    {
        "shopify": read_shopify_delivery,
        "stripe": read_stripe_delivery,
        "openphone": read_openphone_delivery,
    }
)


@dataclass(frozen=True, slots=True)
class Route:
    """A webhook address. ``secret_name`` is the shop's secret that must have signed."""

    provider: str
    slug: str
    secret_name: str
    read: Read


def find_route(path: str) -> Route | None:
    """Return the route that ``path`` names, or None. The request names the shop, never the secret."""
    match path.removeprefix(PREFIX).split("/"):
        case ["standard", slug, source] if slug and source:
            provider = f"standard:{source}"
            read = partial(read_standard_delivery, provider=provider)
            return Route(provider, slug, f"standard-webhook:{source}", read)
        case [provider, slug] if slug and provider in _READERS:
            return Route(provider, slug, f"{provider}-webhook", _READERS[provider])
        case _:
            return None
