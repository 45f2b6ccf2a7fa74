"""The secret key for calls to a shop's own Stripe account."""

from sqlalchemy import Connection

from services.core.crypto import SealBroken
from services.core.errors import Misconfigured
from services.shops.secrets import get_secret

NO_KEY = (
    "the shop has no stripe-key for calls to Stripe: `fleet shops secret SHOP stripe-key --stdin` records a "
    "restricted key that may read charges, refunds, disputes, payouts, balance and events; then requeue this"
)


def find_stripe_key(tx: Connection, shop_id: int) -> str | None:
    """Return the shop's key, or None for a shop without Stripe.

    Raises ``Misconfigured`` if the key cannot be decrypted, or if the shop takes Stripe's webhooks but has no
    key.
    """
    try:
        key = get_secret(tx, shop_id, "stripe-key")
    except SealBroken as fault:
        why = f"the shop's stripe-key does not open: {fault}; record it again, then requeue this item"
        raise Misconfigured("stripe.key_unreadable", why) from fault
    try:
        takes_webhooks = key is not None or get_secret(tx, shop_id, "stripe-webhook") is not None
    except SealBroken:
        takes_webhooks = True
    if key is None and takes_webhooks:
        raise Misconfigured("stripe.no_key", NO_KEY)
    return key


def get_stripe_key(tx: Connection, shop_id: int) -> str:
    """Return the shop's key; raise ``Misconfigured`` without one."""
    key = find_stripe_key(tx, shop_id)
    if key is None:
        raise Misconfigured("stripe.no_key", NO_KEY)
    return key
