"""Histograms of work: a settled item is in one bucket of its wait, its run and its way from the webhook."""

from datetime import timedelta
from random import Random

import pytest
from sqlalchemy import Connection, Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import RetryLater
from services.ledger.runner_external import ExternalRunner
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.settle import BatchResult, record_stats
from services.ledger.timings import BOUNDS_SECONDS, count_timings, split_timings
from services.ledger.topics import TOPICS
from services.ledger.work import Done, HandlerResult, Outcome, PreparedCall, WorkItem
from tests.ledger_rows import NOW, accept, new_event, plan

OWN, PUSH = TOPICS["order_ingest"], TOPICS["inventory_push"]
TIMINGS = "select timings from work_stats where minute = '1970-01-01Z' and topic = :topic order by worker"
Parts = dict[str, tuple[int, float]]


def read_parts(engine: Engine, topic: str) -> Parts:
    """Return the count and the sum in seconds of each histogram that has counts."""
    with transaction(engine) as tx:
        (timings,) = tx.scalars(text(TIMINGS), {"topic": topic}).all()
    return {name: (sum(counts), seconds) for name, counts, seconds in split_timings(timings)}


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(-3.0, 0), (0.0, 0), (0.01, 0), (0.011, 1), (3600, len(BOUNDS_SECONDS) - 1), (9e9, len(BOUNDS_SECONDS))],
)
def test_a_time_is_in_the_bucket_up_to_whose_bound_it_is(seconds: float, bucket: int) -> None:
    ((name, counts, _),) = split_timings(count_timings([], [seconds], []))

    assert name == "run"
    assert [number for number, count in enumerate(counts) if count] == [bucket]


def test_the_sum_is_never_below_zero() -> None:
    assert [total for _, _, total in split_timings(count_timings([-5.0], [1.25, 0.25], []))] == [0, 1.5]


def test_without_timings_there_is_no_histogram() -> None:
    assert list(split_timings([])) == []


def run_own(engine: Engine, outcome: Outcome) -> None:
    def handle(_tx: Connection, items: list[WorkItem], _now: object) -> HandlerResult:
        return HandlerResult([outcome for _ in items])

    TransactionalRunner(engine, "w", Random(1)).run_batch(OWN, handle)  # type: ignore[arg-type]


class Push:
    """A call that succeeds."""

    def prepare(self, _tx: object, items: list[WorkItem], _now: object) -> list[PreparedCall]:
        return [PreparedCall(item=item, act=lambda: Done("sent")) for item in items]


def test_work_of_events_is_counted_from_ready_from_claimed_and_from_the_webhook(engine: Engine) -> None:
    received = utc_now() - timedelta(minutes=10)
    accept(engine, *(new_event(number, received_at=received) for number in range(3)))

    run_own(engine, RetryLater("x", "y", wait=timedelta(0)))
    assert read_parts(engine, OWN.name).keys() == {"wait", "run"}, "without an effect"
    with transaction(engine) as tx:
        ready = {"at": utc_now() - timedelta(minutes=1)}
        tx.execute(text("update work_queue set next_retry_at = :at"), ready)
    run_own(engine, Done())

    parts = read_parts(engine, OWN.name)
    assert {name: count for name, (count, _) in parts.items()} == {"wait": 6, "run": 6, "effect": 3}
    assert 3 * 660 <= parts["wait"][1] < 3 * 660 + 300, "ten minutes, then one"
    assert 3 * 600 <= parts["effect"][1] < 3 * 600 + 300
    assert parts["run"][1] < 300


def test_work_without_an_event_has_no_webhook(engine: Engine) -> None:
    plan(engine, PUSH.name, 2)

    ExternalRunner(engine, "w", Random(1)).run_batch(PUSH, Push())  # type: ignore[arg-type]
    with transaction(engine) as tx:
        rows = tx.scalars(text(TIMINGS), {"topic": PUSH.name}).all()
    assert [(name, sum(counts)) for name, counts, _ in split_timings(rows[0])] == [("wait", 2), ("run", 2)]


def test_dead_work_that_was_requeued_has_not_waited_since_it_was_planned(engine: Engine) -> None:
    plan(engine, PUSH.name, 1)
    with transaction(engine) as tx:
        tx.execute(text("update work_queue set died_at = now()"))

    ExternalRunner(engine, "w", Random(1)).run_batch(PUSH, Push())  # type: ignore[arg-type]
    assert read_parts(engine, PUSH.name).keys() == {"run"}


def test_only_the_row_of_the_total_has_histograms(engine: Engine) -> None:
    for _ in range(2):
        with transaction(engine) as tx:
            record_stats(tx, OWN, "w", BatchResult(done=1), NOW, count_timings([1], [2], [3]))
    with transaction(engine) as tx:
        record_stats(tx, OWN, "w", BatchResult(done=1), NOW)

    assert read_parts(engine, OWN.name) == {"wait": (2, 2.0), "run": (2, 4.0), "effect": (2, 6.0)}
    with transaction(engine) as tx:
        minutes = tx.scalars(text("select timings from work_stats where minute > '1971-01-01Z'")).all()
    assert minutes == [[]]
