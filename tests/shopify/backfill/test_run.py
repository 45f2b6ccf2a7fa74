"""Backfill runs: where a list starts, lists of several pages, and providers that refuse."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from services.closing.gap_backfill import backfill_gaps, backfill_providers
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Deferred, Misconfigured, RetryLater
from services.ledger.sync_cursors import find_cursor, upsert_cursor
from services.providers.shopify_answers import ThrottleStatus
from services.sandbox.payloads.catalogue import make_items, make_product
from services.sandbox.payloads.orders import make_line, make_refund
from services.sandbox.payloads.templates import local_text
from services.shopify.backfill.pager import Pager
from services.shopify.backfill.run import FIRST_RUN_WINDOW, OVERLAP, backfill_shopify
from tests.shopify.backfill.fake_shop import (
    DOMAIN,
    STRIPE_KEY,
    Shops,
    contents,
    control,
    job_run,
    put_order,
    receive,
    work_off,
)
from tests.shopify.backfill.sample_day import CURRENCY, EVENING, MORNING, Webhook, make_day


def names(shops: Shops) -> set[str]:
    return {orjson.loads(row)["name"] for row in contents(shops.engine, shops.holed)["orders"]}


def backfill(shops: Shops, now: datetime = EVENING, **more: Any) -> dict[str, int]:
    stats = backfill_shopify(shops.holed, now, "backfill", **more)
    work_off(shops.engine)
    return dict(stats.recorded)


def test_first_backfill_reads_as_far_back_as_shopify_shows_orders(shops: Shops) -> None:
    now = utc_now()
    put_order(shops, now - FIRST_RUN_WINDOW + timedelta(hours=1), 1)
    put_order(shops, now - FIRST_RUN_WINDOW - timedelta(hours=1), 2)
    control(shops.url, shop=DOMAIN, scopes=["read_orders", "read_products", "read_inventory"])

    backfill(shops, now)

    assert names(shops) == {"#1"}


def test_object_that_shopifys_index_showed_late_is_found_in_the_overlap(shops: Shops) -> None:
    backfill(shops)
    with transaction(shops.engine) as tx:
        assert find_cursor(tx, shops.holed, "shopify", "orders") == EVENING
    put_order(shops, EVENING - OVERLAP + timedelta(minutes=1), 1)
    put_order(shops, EVENING - OVERLAP - timedelta(minutes=1), 2)

    backfill(shops, EVENING + timedelta(hours=1))

    assert names(shops) == {"#1"}


def test_since_reads_from_before_the_cursor(shops: Shops) -> None:
    backfill(shops)
    put_order(shops, EVENING - timedelta(hours=5))

    assert backfill(shops, EVENING + timedelta(hours=1)) == {}
    assert backfill(shops, EVENING + timedelta(hours=1), since=EVENING - timedelta(hours=6)) != {}


def test_order_placed_and_paid_within_a_second_is_missing_until_it_is_paid(shops: Shops) -> None:
    order = put_order(shops, EVENING)
    receive_body(shops, "orders/create", order | {"financial_status": "pending"})
    work_off(shops.engine)

    assert backfill(shops) == {"orders/updated": 1}

    (row,) = contents(shops.engine, shops.holed)["orders"]
    assert orjson.loads(row)["financial_status"] == "paid"


def test_event_that_waits_for_its_work_is_not_recorded_again(shops: Shops) -> None:
    put_order(shops, EVENING)

    first, second = (backfill_shopify(shops.holed, EVENING, "backfill").recorded.total() for _ in range(2))

    assert (first, second) == (1, 0)
    with transaction(shops.engine) as tx:
        assert tx.execute(text("select duplicate_count from inbound_events")).scalars().all() == [0]


def receive_body(shops: Shops, topic: str, body: dict[str, Any]) -> None:
    receive(shops.engine, shops.holed, [Webhook(topic, body, EVENING)], name=topic)


def test_lists_longer_than_their_first_page_are_read_to_their_end(shops: Shops) -> None:
    day = make_day(9, orders=1)
    order = day.orders[0]
    items = make_items(day.rng, 60)
    lines = [make_line(day.rng, item, quantity=2, currency=CURRENCY) for item in items]
    order |= {"line_items": lines, "updated_at": local_text(EVENING)}
    refund = make_refund(day.rng, order, refunded_at=EVENING)
    part = refund["refund_line_items"][0]
    refund["refund_line_items"] = [
        part | {"id": part["id"] - 1 - n, "line_item_id": line["id"], "line_item": line}
        for n, line in enumerate(lines[:25])
    ]
    paid = [
        refund["transactions"][0] | {"id": 10**9 + n, "kind": "sale", "processed_at": local_text(EVENING)}
        for n in range(20)
    ]
    objects = {"orders": [order], "refunds": [refund], "order_transactions": paid,
            "products": [make_product(items, updated_at=EVENING, currency=CURRENCY)]}  # fmt: skip
    control(shops.url, shop=DOMAIN, **objects)

    backfill(shops)

    held = contents(shops.engine, shops.holed)
    assert len(held["order_lines"]) == 60
    assert len(held["order_refund_lines"]) == 25
    assert len(held["order_transactions"]) == 21
    assert len(held["variants"]) == 60
    assert backfill(shops) == {}


def test_shop_without_credentials_is_skipped(shops: Shops) -> None:
    parts = backfill_providers(shops.whole, EVENING, "backfill")

    assert [(part.provider, part.state) for part in parts] == [
        ("shopify", "not_connected"), ("stripe", "not_connected"),
    ]  # fmt: skip
    finished = backfill_gaps(job_run(shops.whole), clock=lambda: EVENING)
    assert finished.stats["shopify"] == "not_connected"


def test_refused_credential_does_not_stop_the_other_provider(shops: Shops) -> None:
    day = make_day(11)
    control(shops.url, shop=DOMAIN, webhooks=day.shopify_webhooks(), token="shpat_" + "ff" * 16)
    control(shops.url, stripe_key=STRIPE_KEY, events=day.stripe_events())

    with pytest.raises(Misconfigured) as raised:
        backfill_gaps(job_run(shops.holed), clock=lambda: EVENING)

    assert raised.value.code == "shopify.token_refused"
    work_off(shops.engine)
    assert contents(shops.engine, shops.holed)["transactions"]


def test_temporary_fault_is_retried_before_a_person_is_needed(shops: Shops) -> None:
    def refused(*_: object, **__: object) -> Mapping[str, int]:
        raise Misconfigured("shopify.token_refused", "no")

    def away(*_: object, **__: object) -> Mapping[str, int]:
        raise RetryLater("stripe.unavailable", "later")

    job = partial(backfill_gaps, providers={"shopify": refused, "stripe": away}, clock=lambda: EVENING)
    with pytest.raises(RetryLater):
        job(job_run(shops.holed))


def test_recorded_events_are_audited_and_counted(shops: Shops) -> None:
    put_order(shops, EVENING)

    finished = backfill_gaps(job_run(shops.holed), clock=lambda: EVENING)

    assert finished.stats["entered"] == finished.stats["orders/updated"] == 1
    assert finished.result == "backfilled"
    assert finished.record is not None
    with transaction(shops.engine) as tx:
        (entry,) = finished.record(tx).audit
        origin = tx.execute(text("select origin, topic from inbound_events")).one()
    assert entry.mutations[0].after == {"orders/updated": 1}
    assert (origin.origin, origin.topic) == ("backfill", "orders/updated")


class Scripted:
    """Returns scripted answers, and raises the ones that are errors."""

    def __init__(self, *answers: object, throttle: ThrottleStatus | None = None) -> None:
        self._answers, self.throttle = list(answers), throttle

    def execute(self, document: str, variables: Mapping[str, Any], *, changes: bool) -> dict[str, Any]:
        del document, variables, changes
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]


def test_pager_waits_a_short_wait_and_raises_a_long_one() -> None:
    waits: list[float] = []
    short = RetryLater("shopify.throttled", "", wait=timedelta(seconds=3))
    long = RetryLater("shopify.throttled", "", wait=timedelta(minutes=3))

    assert Pager(Scripted(short, short, {"a": 1}), pause=waits.append).query("", {}) == {"a": 1}
    assert waits == [3, 3]
    with pytest.raises(RetryLater):
        Pager(Scripted(long), pause=waits.append).query("", {})
    assert waits == [3, 3]


def test_half_of_the_rate_limit_is_left_to_others() -> None:
    waits: list[float] = []
    throttle = ThrottleStatus(maximum_available=2000, currently_available=600, restore_rate=100)

    Pager(Scripted({}, throttle=throttle), pause=waits.append).query("", {})

    assert waits == [4]


def test_run_whose_time_is_over_continues_in_the_next_try_without_counting_one() -> None:
    at = 0.0
    reader = Pager(Scripted({}, {}), max_run_time=timedelta(minutes=1), clock=lambda: at)
    reader.query("", {})
    at = 61.0

    with pytest.raises(Deferred):
        reader.query("", {})


def test_cursor_never_moves_back(shops: Shops) -> None:
    with transaction(shops.engine) as tx:
        upsert_cursor(tx, shops.holed, "shopify", "orders", EVENING, EVENING)
    put_order(shops, MORNING)

    backfill(shops, EVENING, since=MORNING - timedelta(hours=1))

    with transaction(shops.engine) as tx:
        assert find_cursor(tx, shops.holed, "shopify", "orders") == EVENING
