"""The webhook routes: which provider reads a path, and which secret signs it."""

from dataclasses import dataclass

from services.providers.provider import ReadDelivery
from services.providers.registry import WEBHOOK_PROVIDERS

PREFIX = "/webhooks/"
MAX_PATH = 1024
"""Characters. Above 65,534 bytes granian's HTTP parser answers 414 itself, without a body."""


@dataclass(frozen=True, slots=True)
class WebhookRoute:
    """A webhook address. ``secret_name`` is the shop's secret that must have signed the delivery.

    ``identifying`` are the headers that must not be repeated with different values.
    """

    provider: str
    slug: str
    secret_name: str
    read: ReadDelivery
    identifying: frozenset[str]


def find_route(path: str) -> WebhookRoute | None:
    """Return the route of ``path``, or None."""
    if len(path) > MAX_PATH:
        return None
    name, *rest = path.removeprefix(PREFIX).split("/")
    provider = WEBHOOK_PROVIDERS.get(name)
    if provider is None or provider.read is None or not all(rest):
        return None
    secret, read, identifying = provider.webhook_secret.name, provider.read, provider.identifying_headers
    match rest:
        case [slug, source] if provider.has_sources:
            return WebhookRoute(f"{name}:{source}", slug, f"{secret}:{source}", read, identifying)
        case [slug] if not provider.has_sources:
            return WebhookRoute(name, slug, secret, read, identifying)
    return None
