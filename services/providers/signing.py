"""Signs a webhook as its provider does: for samples, the demo and the tests. Pure."""

from datetime import datetime

from services.providers.openphone import sign_openphone, sign_quo
from services.providers.shopify import sign_shopify
from services.providers.standard_webhooks import sign_standard
from services.providers.stripe import sign_stripe


def sign(
    provider: str, body: bytes, secret: str, *, topic: str, webhook_id: str, domain: str, now: datetime
) -> dict[str, str]:
    """Return the headers that ``provider`` would send with ``body``."""
    key = secret.encode()
    match provider:
        case "shopify":
            return sign_shopify(
                body, key, topic=topic, webhook_id=webhook_id, shop_domain=domain, triggered_at=now
            )
        case "stripe":
            return sign_stripe(body, key, now=now)
        case "openphone":
            return sign_openphone(body, key, now=now)
        case "quo":
            return sign_quo(body, key, webhook_id=f"msg_{webhook_id}", now=now)
        case _:
            return sign_standard(body, key, webhook_id=f"msg_{webhook_id}", now=now)
