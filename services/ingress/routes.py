"""The webhook routes: which provider reads a path, and which secret signs it."""

from dataclasses import dataclass

from services.providers.provider import ReadDelivery
from services.providers.registry import WEBHOOK_PROVIDERS

PREFIX = "/webhooks/"
MAX_PATH = 1024
"""Characters. Past 65,534 bytes the HTTP parser of granian answers 414 itself, without a body."""


@dataclass(frozen=True, slots=True)
class Route:
    """A webhook address. ``secret_name`` is the shop's secret that must have signed.

    ``identifying`` are the headers that must not come twice with different values.
    """

    provider: str
    slug: str
    secret_name: str
    read: ReadDelivery
    identifying: frozenset[str]


def find_route(path: str) -> Route | None:
    """Return the route that ``path`` names, or None. The request names the shop, never the secret."""
    if len(path) > MAX_PATH:
        return None
    name, *rest = path.removeprefix(PREFIX).split("/")
    provider = WEBHOOK_PROVIDERS.get(name)
    if provider is None or provider.read is None or not all(rest):
        return None
    secret, read, identifying = provider.webhook_secret.name, provider.read, provider.identifying_headers
    match rest:
        case [slug, source] if provider.has_sources:
            return Route(f"{name}:{source}", slug, f"{secret}:{source}", read, identifying)
        case [slug] if not provider.has_sources:
            return Route(name, slug, secret, read, identifying)
    return None
