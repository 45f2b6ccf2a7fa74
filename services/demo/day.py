"""The day of four shops, with duplicates, changed order, forged requests and broken bodies. Pure."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from services.demo.delivery import BAD_SIGNATURE, INCOMPLETE, STALE, UNREADABLE, DayPlan, Delivery
from services.demo.orders import HOUR, MINUTE, ShopDay
from services.demo.shops import FOLLOWER, DemoShop
from services.sandbox.payloads.stripe import make_charge, make_payment_intent
from services.sandbox.payloads.templates import big_id

WEBHOOKS_PER_ORDER = 4.4
REPEATED = 0.08
DISPLACED = 0.15
LOST = 0.05
REACH = 40
"""The most positions by which a webhook arrives too early or too late."""


def plan_opening(shops: Sequence[DemoShop], rng: random.Random, now: datetime) -> DayPlan:
    """Return the webhooks before the day: each shop's items and its stock."""
    days = [ShopDay(shop, shop.yesterday(now)[1], rng) for shop in shops]
    for day in days:
        day.open()
    return DayPlan([delivery for day in days for delivery in day.deliveries])


def plan_day(shops: Sequence[DemoShop], rng: random.Random, events: int, now: datetime) -> DayPlan:
    """Return yesterday as about ``events`` webhooks, with the lost ones and the planted breaks."""
    orders = max(2, round(events / len(shops) / WEBHOOKS_PER_ORDER))
    days = [ShopDay(shop, shop.yesterday(now)[1], rng) for shop in shops]
    for day in days:
        day.sell(orders)
        if day.shop.slug != FOLLOWER:
            _recount(day, rng)
        _add_invalid(day, rng)
    lost = [delivery for day in days for delivery in _choose_lost(day, rng)]
    planted = _plant_breaks(days, rng)
    sent = [(one.at - day.begins, one) for day in days for one in day.deliveries if one not in lost]
    sent.sort(key=lambda pair: pair[0])
    return replace(planted, posts=shuffle([delivery for _, delivery in sent], rng), lost=lost)


def shuffle(deliveries: Sequence[Delivery], rng: random.Random) -> list[Delivery]:
    """Return ``deliveries`` as a network delivers them: some too late or too early, some twice."""
    placed: list[tuple[float, Delivery]] = []
    for place, delivery in enumerate(deliveries):
        shift = rng.uniform(-REACH, REACH) if rng.random() < DISPLACED else 0.0
        placed.append((place + shift, delivery))
        if not delivery.is_refused and rng.random() < REPEATED:
            placed.append((place + shift + rng.uniform(0, REACH), delivery))
    return [delivery for _, delivery in sorted(placed, key=lambda pair: pair[0])]


def _recount(day: ShopDay, rng: random.Random) -> None:
    """Count levels at 14:00; an hour later the webhook of an older count arrives."""
    for place in rng.sample(range(len(day.shop.items)), 3):
        at = day.begins + 14 * HOUR
        day.count_stock(place, rng.randrange(3000, 4000), at, is_news=True)
        day.count_stock(place, rng.randrange(2000, 3000), at - 10 * MINUTE, is_news=False)


def _add_invalid(day: ShopDay, rng: random.Random) -> None:
    """Add forged requests, replayed old requests, and signed bodies that cannot be read."""
    noon = day.begins + 12 * HOUR
    for number in range(3):
        at = noon + number * HOUR
        day.shopify("orders/create", {"id": big_id(rng), "total_price": "0.01"}, at, fault=BAD_SIGNATURE)
        day.message(at, fault=(BAD_SIGNATURE, STALE, STALE)[number])
        payment = make_charge(rng, amount_cents=100, currency=day.shop.currency, created_at=at)
        day.stripe("charge.succeeded", payment, at, fault=STALE)
    day.shopify("orders/create", b'{"id": 45, "line_items": [{"sku": "CAN-', noon, fault=UNREADABLE)
    no_total = {"id": big_id(rng), "currency": day.shop.currency, "line_items": []}
    day.shopify("orders/create", no_total, noon, fault=INCOMPLETE)


def _choose_lost(day: ShopDay, rng: random.Random) -> list[Delivery]:
    """Return some webhooks of orders and payments, which will not arrive."""
    prefixes = ("orders/", "refunds/", "charge.", "refund.", "payment_intent.")
    candidates = [one for one in day.deliveries if not one.fault and one.topic.startswith(prefixes)]
    return rng.sample(candidates, max(2, round(len(candidates) * LOST)))


def _plant_breaks(days: Sequence[ShopDay], rng: random.Random) -> DayPlan:
    """Return a plan without posts: a payment is missing here, one at Stripe, and one amount differs."""
    first, second = days[0], days[1]
    wrong = next(charge for charge in first.charges if charge["status"] == "succeeded")
    before = len(first.deliveries)
    lost_until_night = first.charge(4200, first.begins + 15 * HOUR)
    first.stripe("charge.succeeded", lost_until_night, first.begins + 15 * HOUR)
    more = {name: wrong[name] + 1 for name in ("amount", "amount_captured")}
    first.stripe("charge.updated", wrong | more, first.begins + 22 * HOUR)
    lost = [first.deliveries.pop() for _ in first.deliveries[before:]]
    at = second.begins + 15 * HOUR
    unknown = make_charge(rng, amount_cents=1800, currency=second.shop.currency, created_at=at)
    second.stripe("charge.succeeded", unknown, at + timedelta(seconds=1))
    second.stripe("payment_intent.succeeded", make_payment_intent(unknown), at + timedelta(seconds=1))
    breaks = (
        (first.shop.slug, "missing_here", lost_until_night["id"]),
        (first.shop.slug, "amount", wrong["id"]),
        (second.shop.slug, "missing_there", unknown["id"]),
    )
    removed = [(second.shop.slug, unknown["id"])]
    return DayPlan((), lost_until_night=lost, removed=removed, breaks=frozenset(breaks))
