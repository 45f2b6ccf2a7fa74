"""One call for several items, real runner: each item is settled alone, the call's result is written once."""

import signal
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Deferred, Refused, RetryLater
from services.ledger.rate_limits import block_bucket, record_throttle, reserve_calls
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import (
    BatchResponse,
    Call,
    Done,
    FollowUp,
    NewWork,
    Outcome,
    PreparedBatch,
    WorkItem,
)
from tests.journeys.journey_fleet import wait_for
from tests.ledger_rows import plan, rows_of, statuses

TOPIC = TOPICS["inventory_push"]
Act = Callable[[Sequence[WorkItem]], BatchResponse]


class Together:
    """An effect that makes one call for all items of a shop."""

    def __init__(self, act: Act) -> None:
        self.act = act

    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> list[Call | Outcome]:
        calls: dict[int, Call] = {}
        for shop_id in {item.shop_id for item in items}:
            shop_items = [item for item in items if item.shop_id == shop_id]
            payloads = [{"asked": item.id} for item in shop_items]
            calls[shop_id] = PreparedBatch(
                items=shop_items, act=partial(self.act, shop_items), payloads=payloads
            )
        return [calls[item.shop_id] for item in items]


def run(engine: Engine, act: Act) -> Any:
    return ExternalRunner(engine, "tester", Random(1)).run_batch(TOPIC, Together(act))


def all_rows(engine: Engine) -> list[dict[str, Any]]:
    with transaction(engine) as tx:
        return list(rows_of(tx))


def test_each_item_has_its_own_outcome_and_the_payload_was_stored_before(engine: Engine) -> None:
    ids = plan(engine, TOPIC.name, 3)
    stored: list[Any] = []

    def act(items: Sequence[WorkItem]) -> BatchResponse:
        stored.extend(row["payload"] for row in all_rows(engine))
        return BatchResponse([Done("pushed"), Refused("no.such"), RetryLater("later")])

    report = run(engine, act)

    assert [(row["status"], row["result"], row["error_code"]) for row in all_rows(engine)] == [
        ("done", "pushed", None),
        ("dead", None, "no.such"),
        ("error", None, "later"),
    ]
    assert stored == [{"asked": number} for number in ids]
    assert (report.claimed, report.done) == (3, 1)


def test_result_of_a_call_is_written_once_for_items_still_leased(engine: Engine) -> None:
    ids = plan(engine, TOPIC.name, 3)
    recorded: list[Collection[int]] = []

    def record(tx: Connection, taught: Sequence[Any], held: Collection[int]) -> FollowUp:
        recorded.append(set(held))
        return FollowUp([NewWork(shop_id=1, topic=TOPIC.name, key="next")])

    def act(items: Sequence[WorkItem]) -> BatchResponse:
        with transaction(engine) as tx:
            tx.exec_driver_sql("update work_queue set locked_by = 'x' where id = %(id)s", {"id": ids[1]})
        return BatchResponse([Done()] * 3, record)

    report = run(engine, act)

    assert recorded == [{ids[0], ids[2]}]
    assert (report.done, report.lost, len(report.refs)) == (2, 1, 1)


def test_write_error_fails_only_its_item(engine: Engine) -> None:
    ids = plan(engine, TOPIC.name, 4)

    def record(tx: Connection, taught: Sequence[Any], held: Collection[int]) -> FollowUp:
        if ids[2] in held:
            raise ValueError("boom")
        return FollowUp()

    run(engine, lambda items: BatchResponse([Done()] * 4, record))

    assert statuses(engine) == {"done": 3, "error": 1}
    assert all_rows(engine)[2]["error_code"] == "bug.ValueError"


@pytest.mark.parametrize("fault", [RetryLater("later"), Deferred("not.yet", wait=timedelta(seconds=9))])
def test_items_of_one_call_are_retried_together(engine: Engine, fault: RetryLater) -> None:
    plan(engine, TOPIC.name, 20)

    run(engine, lambda items: BatchResponse([fault] * len(items)))

    assert len({row["next_retry_at"] for row in all_rows(engine)}) == 1


def test_too_few_outcomes_are_a_bug_and_nothing_is_done(engine: Engine) -> None:
    plan(engine, TOPIC.name, 3)

    run(engine, lambda items: BatchResponse([Done()]))

    assert {row["error_code"] for row in all_rows(engine)} == {"bug.ValueError"}


def test_call_takes_tokens_once_for_any_number_of_items(engine: Engine) -> None:
    plan(engine, TOPIC.name, TOPIC.call_items)
    now = utc_now()
    with transaction(engine) as tx:
        record_throttle(tx, 1, "shopify", maximum=1000, available=15, restore_per_second=1, now=now)

    run(engine, lambda items: BatchResponse([Done()] * len(items)))

    assert statuses(engine) == {"done": TOPIC.call_items}


def test_call_costs_what_the_provider_reported(tx: Connection) -> None:
    now = utc_now()
    bucket = {"maximum": 1000, "available": 100, "restore_per_second": 2}
    record_throttle(tx, 1, "shopify", **bucket, now=now, call_points=80)
    record_throttle(tx, 1, "shopify", **bucket, now=now)

    assert reserve_calls(tx, 1, "shopify", 2, now, cost_points=10) == [timedelta(seconds=40)]


def test_call_that_costs_more_than_the_bucket_is_sent_when_it_is_full(tx: Connection) -> None:
    now = utc_now()
    record_throttle(
        tx, 1, "shopify", maximum=100, available=100, restore_per_second=2, now=now, call_points=500
    )

    assert reserve_calls(tx, 1, "shopify", 1, now, cost_points=10) == []


def test_blocked_bucket_gives_no_token_until_the_wait_is_over(tx: Connection) -> None:
    now = utc_now()
    block_bucket(tx, 1, "shopify", timedelta(seconds=30), now, cost_points=10)
    assert reserve_calls(tx, 1, "shopify", 1, now, cost_points=10) == []

    record_throttle(tx, 1, "shopify", maximum=1000, available=900, restore_per_second=50, now=now)
    block_bucket(tx, 1, "shopify", timedelta(seconds=30), now, cost_points=10)

    assert reserve_calls(tx, 1, "shopify", 1, now, cost_points=10) == [timedelta(seconds=30)]
    assert reserve_calls(tx, 1, "shopify", 1, now + timedelta(seconds=29), cost_points=10)
    assert reserve_calls(tx, 1, "shopify", 1, now + timedelta(seconds=30), cost_points=10) == []


def test_call_that_is_under_way_when_the_worker_is_stopped_is_tried_again(engine: Engine) -> None:
    plan(engine, TOPIC.name, 1, shop_id=1)
    plan(engine, TOPIC.name, 3, shop_id=2)
    over, main = threading.Event(), threading.get_ident()

    def stop(items: Sequence[WorkItem]) -> BatchResponse:
        if items[0].shop_id == 2:
            # Once the other call is settled, the worker waits for this one.
            wait_for(lambda: statuses(engine).get("done") == 1)
            signal.pthread_kill(main, signal.SIGINT)
            over.wait(60)
        return BatchResponse([Done()] * len(items))

    with pytest.raises(KeyboardInterrupt):
        run(engine, stop)
    over.set()

    assert [(row["status"], row["error_code"], row["locked_by"]) for row in all_rows(engine)] == [
        ("done", None, None),
        *[("error", "worker.interrupted", None)] * 3,
    ]


def test_last_error_is_without_addresses_and_keys(engine: Engine) -> None:
    plan(engine, TOPIC.name, 2)
    quoted = "said no to ada@example.com with shpat_0123456789abcdef"

    run(engine, lambda items: BatchResponse([Refused("no", quoted), RetryLater("later", quoted)]))

    assert {row["last_error"] for row in all_rows(engine)} == {"said no to [email] with [hidden]"}
