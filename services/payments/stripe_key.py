"""The secret key for calls to a shop's Stripe account."""

from sqlalchemy import Connection

from services.core.crypto import SealBroken
from services.core.errors import Misconfigured
from services.shops.secrets import find_secrets
from services.shops.shops import get_shop_by_id


def no_stripe_key(tx: Connection, shop_id: int) -> Misconfigured:
    """Return the error for a shop without a key, with the command that records one."""
    command = f"fleet shops secret {get_shop_by_id(tx, shop_id).slug} stripe-key --stdin"
    may = "restricted key that may read charges, refunds, disputes, payouts, balance and events"
    why = f"the shop has no stripe-key for calls to Stripe: `{command}` records a {may}"
    return Misconfigured("stripe.no_key", why)


def find_stripe_key(tx: Connection, shop_id: int) -> str | None:
    """Return the shop's key; None for a shop without Stripe.

    Raises ``Misconfigured`` if the key does not open, or if the shop has Stripe's webhooks without a key.
    """
    names = (shop_id, "stripe-key"), (shop_id, "stripe-webhook")
    found = find_secrets(tx, names)
    key = found.get(names[0])
    if isinstance(key, SealBroken):
        why = f"the shop's stripe-key does not open: {key}; record it again, then requeue this item"
        raise Misconfigured("stripe.key_unreadable", why) from key
    if key is None and found:
        raise no_stripe_key(tx, shop_id)
    return key


def get_stripe_key(tx: Connection, shop_id: int) -> str:
    key = find_stripe_key(tx, shop_id)
    if key is None:
        raise no_stripe_key(tx, shop_id)
    return key
