"""The sample webhooks that ``fleet send`` can make, by provider and topic. Pure but for its randomness."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from services.cli.samples_logistics import make_beside
from services.sandbox.payloads.common import dump, utc_text, uuid_text
from services.sandbox.payloads.quo import make_call, make_legacy_call, make_legacy_message, make_message
from services.sandbox.payloads.shopify import make_order_update, make_refund
from services.sandbox.payloads.shopify_account import (
    make_customer,
    make_customer_redact,
    make_data_request,
    make_shop,
    make_shop_redact,
)
from services.sandbox.payloads.shopify_sale import make_fulfillment, make_order_transaction, make_taxed_order
from services.sandbox.payloads.stripe import (
    make_charge,
    make_dispute,
    make_event,
    make_payment_intent,
    make_payout,
    make_refunded_charge,
)
from services.sandbox.payloads.stripe import (
    make_refund as make_stripe_refund,
)
from services.sandbox.shopify.catalogue import (
    Item,
    make_inventory_item,
    make_inventory_level,
    make_items,
    make_location,
    make_product,
)

LOCATION_ID = 65_536_001
SHOPIFY_ID, DOMAIN, CUSTOMER_ID = 548_380_009, "sample.myshopify.com", 7_001_001
Maker = Callable[[random.Random, str, datetime], dict[str, Any]]


def _items(currency: str) -> list[Item]:
    """Return the goods of the sample shop: always the same, so that orders and levels meet."""
    return make_items(random.Random(1), 8, minor_units=1 if currency == "JPY" else 100)  # noqa: S311


def _order(rng: random.Random, currency: str, now: datetime) -> dict[str, Any]:
    return make_taxed_order(
        rng,
        _items(currency),
        placed_at=now,
        currency=currency,
        number=rng.randint(1001, 99999),
        mechanic=rng.choice(("Dana", "Miguel")),
    )


def _level(rng: random.Random, currency: str, now: datetime) -> dict[str, Any]:
    item = rng.choice(_items(currency))
    return make_inventory_level(
        item.inventory_item_id, LOCATION_ID, available=rng.randint(0, 50), updated_at=now
    )


def _customer(now: datetime) -> dict[str, Any]:
    return make_customer(CUSTOMER_ID, updated_at=now)


def _item(currency: str, now: datetime) -> dict[str, Any]:
    return make_inventory_item(_items(currency)[0], updated_at=now, cost_cents=400, currency=currency)


def _data_request(rng: random.Random, now: datetime) -> dict[str, Any]:
    number = rng.randint(1, 99_999)
    return make_data_request(SHOPIFY_ID, DOMAIN, _customer(now), order_ids=[], request_id=number)


def _payout(rng: random.Random, currency: str, now: datetime) -> dict[str, Any]:
    cents, arrives_at = rng.randint(10_000, 90_000), now + timedelta(days=2)
    return make_payout(rng, amount_cents=cents, currency=currency, created_at=now, arrives_at=arrives_at)


def _charge(rng: random.Random, currency: str, now: datetime, status: str = "succeeded") -> dict[str, Any]:
    cents = rng.randint(500, 20_000)
    return make_charge(rng, amount_cents=cents, currency=currency.lower(), created_at=now, status=status)


def _refunded(rng: random.Random, currency: str, now: datetime) -> dict[str, Any]:
    return make_refunded_charge(_charge(rng, currency, now), 100)


def _stripe_refund(rng: random.Random, currency: str, now: datetime) -> dict[str, Any]:
    return make_stripe_refund(rng, _charge(rng, currency, now), amount_cents=100, created_at=now)


def _beside(topic: str) -> Maker:
    return lambda rng, currency, now: make_beside(LOCATION_ID, currency, _items(currency))[topic](
        rng, _order(rng, currency, now), now
    )


_STRIPE: MappingProxyType[str, Maker] = MappingProxyType(
    {
        "charge.succeeded": _charge,
        "charge.failed": lambda rng, currency, now: _charge(rng, currency, now, "failed"),
        "charge.refunded": _refunded,
        "refund.created": _stripe_refund,
        "payment_intent.succeeded": lambda rng, cur, now: make_payment_intent(_charge(rng, cur, now)),
        "charge.dispute.created": lambda rng, c, now: make_dispute(rng, _charge(rng, c, now), created_at=now),
        "payout.paid": _payout,
    }
)


def _event(topic: str) -> Maker:
    return lambda rng, currency, now: make_event(
        rng, topic, _STRIPE[topic](rng, currency, now), created_at=now
    )


SAMPLES: MappingProxyType[str, MappingProxyType[str, Maker]] = MappingProxyType(
    {
        "shopify": MappingProxyType(
            {
                "orders/create": _order,
                "orders/updated": lambda r, c, now: make_order_update(_order(r, c, now), updated_at=now),
                "orders/cancelled": lambda r, c, now: make_order_update(
                    _order(r, c, now), updated_at=now, cancelled=True
                ),
                "refunds/create": lambda r, c, now: make_refund(r, _order(r, c, now), refunded_at=now),
                "inventory_levels/update": _level,
                "products/update": lambda _, c, now: make_product(_items(c), updated_at=now, currency=c),
                "order_transactions/create": lambda r, c, now: make_order_transaction(
                    r, _order(r, c, now), processed_at=now
                ),
                "fulfillments/create": lambda r, c, now: make_fulfillment(
                    r, _order(r, c, now), updated_at=now
                ),
                "inventory_items/update": lambda _, c, now: _item(c, now),
                "locations/update": lambda _r, _c, now: make_location(LOCATION_ID, updated_at=now),
                "customers/update": lambda _r, _c, now: _customer(now),
                "customers/data_request": lambda r, _, now: _data_request(r, now),
                "customers/redact": lambda _r, _c, now: make_customer_redact(
                    SHOPIFY_ID, DOMAIN, _customer(now), order_ids=[]
                ),
                "shop/update": lambda _, c, now: make_shop(SHOPIFY_ID, DOMAIN, updated_at=now, currency=c),
                "app/uninstalled": lambda _, c, now: make_shop(
                    SHOPIFY_ID, DOMAIN, updated_at=now, currency=c
                ),
                "orders/delete": lambda r, c, now: {"id": _order(r, c, now)["id"]},
                "products/delete": lambda r, _c, _now: {"id": r.randint(1, 2**40)},
                "shop/redact": lambda _r, _c, _now: make_shop_redact(SHOPIFY_ID, DOMAIN),
                **{topic: _beside(topic) for topic in make_beside(LOCATION_ID, "USD", _items("USD"))},
            }
        ),
        "stripe": MappingProxyType({topic: _event(topic) for topic in _STRIPE}),
        "openphone": MappingProxyType(
            {
                "message.received": lambda rng, _, now: make_legacy_message(rng, sent_at=now),
                "call.completed": lambda rng, _, now: make_legacy_call(rng, ended_at=now),
            }
        ),
        "quo": MappingProxyType(
            {
                "message.received": lambda rng, _, now: make_message(rng, sent_at=now),
                "call.completed": lambda rng, _, now: make_call(rng, ended_at=now),
            }
        ),
    }
)
"""The first topic of each provider is the one that is sent when none is named."""


def make_sample(provider: str, topic: str, currency: str, rng: random.Random, now: datetime) -> bytes | None:
    """Return the body of a sample webhook, or None when there is none of that topic."""
    if provider not in SAMPLES:
        note = {"id": uuid_text(rng), "note": "a sample"}
        return dump({"type": topic, "timestamp": utc_text(now), "data": note})
    maker = SAMPLES[provider].get(topic)
    return dump(maker(rng, currency, now)) if maker else None
