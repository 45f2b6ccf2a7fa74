"""The sample webhooks that ``fleet send`` makes, by provider and topic. Pure except for randomness."""

import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from services.providers.mail_event_payload import MAIL_KEY, MAIL_REFERENCE
from services.sandbox.payloads import orders, stripe
from services.sandbox.payloads.catalogue import make_product, make_sample_items, make_shopify_body
from services.sandbox.payloads.mails import make_mail
from services.sandbox.payloads.quo import make_call, make_message
from services.sandbox.payloads.templates import Body, dump, load_templates, make, utc_text, uuid_text

Maker = Callable[[random.Random, str, datetime], Body]
SampleMaker = Callable[[random.Random, str, datetime], Body | list[Body]]

_SHOPIFY = load_templates("shopify")
DOMAIN = str(_SHOPIFY["defaults"]["domain"])
_TOPICS = [topic for topic in _SHOPIFY["bodies"] if not topic.startswith("_")]
_CUSTOMER = {"id": _SHOPIFY["defaults"]["customer_id"], "email": _SHOPIFY["defaults"]["email"]}


def _order(rng: random.Random, currency: str, now: datetime) -> Body:
    return orders.make_taxed_order(
        rng, make_sample_items(currency), placed_at=now, currency=currency, number=rng.randint(1001, 99999),
        mechanic=rng.choice(("Dana", "Miguel")),
    )  # fmt: skip


def _level(rng: random.Random, currency: str, now: datetime) -> Body:
    item, location_id = rng.choice(make_sample_items(currency)), _SHOPIFY["defaults"]["location_id"]
    return make_shopify_body(
        "inventory_levels/update",
        inventory_item_id=item.inventory_item_id,
        location_id=location_id,
        available=rng.randint(0, 50),
        at=now,
    )


def _from_template(topic: str) -> Maker:
    def fill(rng: random.Random, currency: str, now: datetime) -> Body:
        order, item = _order(rng, currency, now), rng.choice(make_sample_items(currency))
        values = {"order": order, "order_id": order["id"], "item": item, "customer": _CUSTOMER}
        return make("shopify", topic, rng, at=now, currency=currency, **values)

    return fill


_COMPUTED: Mapping[str, Maker] = {
    "orders/create": _order,
    "orders/updated": lambda r, c, now: orders.make_order_update(_order(r, c, now), updated_at=now),
    "orders/cancelled": lambda r, c, now: orders.make_order_update(
        _order(r, c, now), updated_at=now, cancelled=True
    ),
    "refunds/create": lambda r, c, now: orders.make_refund(r, _order(r, c, now), refunded_at=now),
    "order_transactions/create": lambda r, c, now: orders.make_order_transaction(
        r, _order(r, c, now), processed_at=now
    ),
    "fulfillments/create": lambda r, c, now: orders.make_fulfillment(r, _order(r, c, now), updated_at=now),
    "inventory_levels/update": _level,
    "products/update": lambda _, c, now: make_product(make_sample_items(c), updated_at=now, currency=c),
}


def _charge(rng: random.Random, currency: str, now: datetime, status: str = "succeeded") -> Body:
    cents = rng.randint(500, 20_000)
    return stripe.make_charge(rng, amount_cents=cents, currency=currency, created_at=now, status=status)


def _payout(rng: random.Random, currency: str, now: datetime) -> Body:
    cents, arrives_at = rng.randint(10_000, 90_000), now + timedelta(days=2)
    return stripe.make_payout(
        rng, amount_cents=cents, currency=currency, created_at=now, arrives_at=arrives_at
    )


_STRIPE: Mapping[str, Maker] = {
    "charge.succeeded": _charge,
    "charge.failed": lambda r, c, now: _charge(r, c, now, "failed"),
    "charge.refunded": lambda r, c, now: stripe.make_refunded_charge(_charge(r, c, now), 100),
    "refund.created": lambda r, c, now: stripe.make_refund(
        r, _charge(r, c, now), amount_cents=100, created_at=now
    ),
    "payment_intent.succeeded": lambda r, c, now: stripe.make_payment_intent(_charge(r, c, now)),
    "charge.dispute.created": lambda r, c, now: stripe.make_dispute(r, _charge(r, c, now), created_at=now),
    "payout.paid": _payout,
}


def _event(topic: str) -> Maker:
    return lambda r, c, now: stripe.make_event(r, topic, _STRIPE[topic](r, c, now), created_at=now)


def _quo(provider: str) -> Mapping[str, Maker]:
    return {
        "message.received": lambda r, _, now: make_message(r, sent_at=now, provider=provider),
        "call.completed": lambda r, _, now: make_call(r, ended_at=now, provider=provider),
    }


def _from_mail(topic: str) -> Maker:
    return lambda rng, _, now: make("resend", topic, rng, at=now)


_MAIL_EVENTS = tuple(load_templates("sendgrid")["bodies"])


def _mail_events(*events: str) -> SampleMaker:
    return lambda rng, _, now: [make("sendgrid", event, rng, at=now) for event in events]


SAMPLES: Mapping[str, Mapping[str, SampleMaker]] = {
    "shopify": {**_COMPUTED, **{topic: _from_template(topic) for topic in _TOPICS if topic not in _COMPUTED}},
    "stripe": {topic: _event(topic) for topic in _STRIPE},
    "openphone": _quo("openphone"),
    "quo": _quo("quo"),
    "resend": {topic: _from_mail(topic) for topic in load_templates("resend")["bodies"]},
    "sendgrid": {"events": _mail_events(*_MAIL_EVENTS), **{one: _mail_events(one) for one in _MAIL_EVENTS}},
}
"""The first topic of each provider is the default."""


class SampleMail(NamedTuple):
    """A mail of the outbox, with its idempotency key."""

    id: int
    recipient: str
    key: str


def make_sample(
    provider: str,
    topic: str,
    currency: str,
    rng: random.Random,
    now: datetime,
    mail: SampleMail | None = None,
) -> bytes | None:
    """Return the body of a sample webhook, about ``mail`` if one is given; None if the topic has none."""
    if provider == "standard:mail":
        return dump(make_mail(rng, sent_at=now, recipient=f"mail@{DOMAIN}", provider="standard"))
    if provider not in SAMPLES:
        data: dict[str, Any] = {"id": uuid_text(rng), "note": "a sample"}
        return dump({"type": topic, "timestamp": utc_text(now), "data": data})
    maker = SAMPLES[provider].get(topic)
    if maker is None:
        return None
    body = maker(rng, currency, now)
    if mail is not None:
        own = {MAIL_REFERENCE: str(mail.id), MAIL_KEY: mail.key}
        if isinstance(body, list):
            body = [one | {"email": mail.recipient} | own for one in body]
        else:
            body["data"] |= {"to": [mail.recipient], "tags": own}
    return dump(body)
