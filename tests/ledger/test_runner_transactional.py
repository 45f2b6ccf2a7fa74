"""Transactional effects with the real runner: exactly once, poison items alone, fair to shops."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

import pytest
from sqlalchemy import Connection, Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater
from services.ledger.accept import record_work
from services.ledger.claim import list_ready_topics
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.settle import BUG_TRIES
from services.ledger.topics import TOPICS
from services.ledger.work import Done, HandlerResult, NewWork, Outcome, WorkItem
from tests.ledger_rows import accept, new_event, plan, rows_of, statuses

TOPIC = TOPICS["order_ingest"]


def runner(engine: Engine) -> TransactionalRunner:
    return TransactionalRunner(engine, "tester", Random(1))


def all_done(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    return HandlerResult([Done()] * len(items))


def test_effect_gets_the_bytes_of_its_events(engine: Engine) -> None:
    accept(engine, *(new_event(n, body=b'{"n": %d}' % n) for n in range(5)))
    seen: list[bytes] = []

    def effect(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
        seen.extend(item.body for item in items)
        return all_done(tx, items, now)

    report = runner(engine).run_batch(TOPIC, effect)

    assert sorted(seen) == sorted(b'{"n": %d}' % n for n in range(5))
    assert (report.claimed, report.done, report.more) == (5, 5, False)
    assert statuses(engine) == {"done": 5}


def test_work_that_follows_is_planned_in_the_same_transaction(engine: Engine) -> None:
    plan(engine, "order_ingest", 1)

    def effect(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
        return HandlerResult([Done()], [NewWork(shop_id=1, topic="inventory_push", key="1:2")])

    report = runner(engine).run_batch(TOPIC, effect)

    assert [(ref.queue, ref.topic) for ref in report.refs] == [("inventory", "inventory_push")]
    assert statuses(engine) == {"done": 1, "pending": 1}


def test_poison_item_fails_alone_and_the_others_are_done(engine: Engine) -> None:
    ids = plan(engine, "order_ingest", 7)

    def effect(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
        for item in items:
            tx.execute(text("insert into variants values (1, :id, 1, 's', 't', now())"), {"id": item.id})
        if any(item.id == ids[3] for item in items):
            tx.execute(text("select 1 / 0"))
        return all_done(tx, items, now)

    report = runner(engine).run_batch(TOPIC, effect)

    assert (report.done, len(report.retried)) == (6, 1)
    with transaction(engine) as tx:
        (failed,) = [row for row in rows_of(tx) if row["status"] == "error"]
        effects = list(tx.execute(text("select inventory_item_id from variants")).scalars())
    assert (failed["id"], failed["retry_count"]) == (ids[3], 1)
    assert str(failed["error_code"]).startswith("bug.")
    assert sorted(effects) == sorted(set(ids) - {ids[3]})


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (Done("stale"), "done", None),
        (RetryLater("shopify.throttled"), "error", "shopify.throttled"),
        (OutcomeUnknown("shopify.no_answer"), "error", "shopify.no_answer"),
        (Refused("shopify.declined"), "dead", "shopify.declined"),
        (Misconfigured("shopify.token_refused"), "dead", "shopify.token_refused"),
    ],
)
def test_each_kind_of_outcome_leads_to_its_status(
    engine: Engine, outcome: Outcome, status: str, code: str | None
) -> None:
    plan(engine, "order_ingest", 1)

    runner(engine).run_batch(TOPIC, lambda tx, items, now: HandlerResult([outcome]))

    with transaction(engine) as tx:
        (row,) = rows_of(tx)
    assert (row["status"], row["error_code"]) == (status, code)
    assert (row["next_retry_at"] is not None) == (status == "error")
    assert row["locked_at"] is None


def test_a_bug_is_tried_a_few_times_and_then_waits_for_a_person(engine: Engine) -> None:
    plan(engine, "order_ingest", 1)

    def effect(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
        raise KeyError("total_price")

    for _ in range(BUG_TRIES):
        with transaction(engine) as tx:
            tx.execute(text("update work_queue set next_retry_at = null"))
        runner(engine).run_batch(TOPIC, effect)

    with transaction(engine) as tx:
        (row,) = rows_of(tx)
    assert (row["status"], row["error_code"], row["retry_count"]) == ("dead", "bug.KeyError", BUG_TRIES)
    assert "total_price" in str(row["last_error"])


def test_a_flood_of_one_shop_leaves_room_for_every_other(engine: Engine) -> None:
    plan(engine, "order_ingest", 3000, shop_id=1)
    plan(engine, "order_ingest", 1, shop_id=2)
    shops: list[int] = []

    def effect(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
        shops.extend(item.shop_id for item in items)
        return all_done(tx, items, now)

    report = runner(engine).run_batch(TOPIC, effect)

    assert 2 in shops
    assert report.more


def test_a_row_that_was_settled_twice_is_settled_once(engine: Engine) -> None:
    plan(engine, "order_ingest", 1)
    assert runner(engine).run_batch(TOPIC, all_done).claimed == 1
    assert runner(engine).run_batch(TOPIC, all_done).claimed == 0


def test_two_workers_never_hold_the_same_row(engine: Engine) -> None:
    plan(engine, "order_ingest", 4)
    inner: list[int] = []

    def effect(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
        inner.append(runner(engine).run_batch(TOPIC, all_done).claimed)
        return all_done(tx, items, now)

    assert runner(engine).run_batch(TOPIC, effect).claimed == 4
    assert inner == [0]


def test_item_that_kills_workers_is_run_alone_under_a_lease(engine: Engine) -> None:
    ids = plan(engine, "order_ingest", 3)
    with transaction(engine) as tx:
        tx.execute(text("update work_queue set dispatch_count = 9 where id = :id"), {"id": ids[1]})
    alone: list[tuple[int, object]] = []

    def effect(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
        if len(items) == 1:
            locked = tx.scalar(text("select locked_by from work_queue where id = :id"), {"id": items[0].id})
            alone.append((items[0].id, locked))
        return all_done(tx, items, now)

    own = runner(engine)
    assert own.run_batch(TOPIC, effect).claimed == 2
    assert own.run_batch(TOPIC, effect).none_claimable
    assert own.run_suspect(TOPIC, effect).done == 1
    assert alone[0][0] == ids[1]
    assert str(alone[0][1]).startswith("tester:")


def test_only_topics_with_work_that_is_due_are_ready(engine: Engine) -> None:
    now = utc_now()
    with transaction(engine) as tx:
        record_work(
            tx,
            [
                NewWork(shop_id=1, topic="order_ingest"),
                NewWork(shop_id=1, topic="product_ingest", not_before=now + timedelta(hours=1)),
                NewWork(shop_id=1, topic="inventory_push"),
            ],
            now,
        )
        names = ("product_ingest", "refund_ingest", "order_ingest")
        ready = list_ready_topics(tx, [TOPICS[name] for name in names], utc_now())

    assert [topic.name for topic in ready] == ["order_ingest"]
