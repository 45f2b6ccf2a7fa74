"""Samples of queues, and the points of charts that they make."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from services.ledger.backlog import list_topic_figures
from services.ledger.queue_samples import ALL_QUEUES, KEPT, TOPIC_PREFIX, list_points, record_samples
from services.ledger.settle import BatchResult, record_stats
from services.ledger.timings import count_timings, estimate_percentile
from services.ledger.topics import QUEUES, TOPICS
from tests.health.fleet_rows import add_work

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PUSH = TOPICS["inventory_push"]


def sample(tx: Connection, minutes: float) -> None:
    """Record the samples of ``minutes`` after ``NOW``."""
    at = NOW + minutes * MINUTE
    record_samples(tx, list_topic_figures(tx, at), at)


def finish(tx: Connection, count: int, seconds: float) -> None:
    """Let ``count`` items of ``PUSH`` have their effect after ``seconds``."""
    rows = text("delete from work_queue where id in (select id from work_queue order by id limit :count)")
    tx.execute(rows, {"count": count})
    timings = count_timings([], [], [seconds] * count)
    record_stats(tx, PUSH, "w1", BatchResult(done=count), NOW, timings)


def test_what_came_and_went_is_the_difference_of_two_samples(tx: Connection) -> None:
    add_work(tx, PUSH.name, count=5, created_at=NOW - 3 * MINUTE)
    sample(tx, 0)
    finish(tx, 4, 2.0)
    add_work(tx, PUSH.name, count=6, created_at=NOW + MINUTE)
    add_work(tx, PUSH.name, status="dead", count=2)
    sample(tx, 1)

    first, second = list_points(tx, "inventory", NOW, NOW + 2 * MINUTE, MINUTE)
    assert (first.at, first.ready, first.oldest) == (NOW, 5, 180)
    assert (first.in_rate, first.out_rate, first.effect) == (None, None, None), "nothing to compare with"
    assert (second.ready, second.dead, second.in_rate, second.out_rate) == (7, 2, 6, 4)
    assert second.effect is not None
    assert 1 < second.effect <= 2.5
    of_all = list_points(tx, ALL_QUEUES, NOW, NOW + 2 * MINUTE, MINUTE)
    assert of_all == [first, second]
    (idle, _) = list_points(tx, "email", NOW, NOW + 2 * MINUTE, MINUTE)
    assert not any(idle[1:6])


def test_a_longer_step_has_the_mean_of_its_samples_and_the_highest_age(tx: Connection) -> None:
    for minutes in range(4):
        add_work(tx, PUSH.name, created_at=NOW)
        sample(tx, minutes)

    points = list_points(tx, "inventory", NOW, NOW + 4 * MINUTE, 2 * MINUTE)

    assert [(one.at, one.ready, one.oldest) for one in points] == [
        (NOW, 1.5, 60), (NOW + 2 * MINUTE, 3.5, 180),
    ]  # fmt: skip
    assert points[1].in_rate == 1


def test_after_a_gap_no_rate_is_known(tx: Connection) -> None:
    sample(tx, 0)
    add_work(tx, PUSH.name, count=9)
    sample(tx, 5)

    points = list_points(tx, "inventory", NOW, NOW + 9 * MINUTE, MINUTE)
    assert [(one.at, one.in_rate) for one in points] == [(NOW, None), (NOW + 5 * MINUTE, None)]


def test_a_minute_has_one_sample_of_each_queue_and_old_ones_are_deleted(tx: Connection) -> None:
    sample(tx, 0)
    sample(tx, 0.4)
    assert tx.scalar(text("select count(*) from queue_samples")) == len(QUEUES) + 1

    sample(tx, (KEPT + MINUTE) / MINUTE)
    assert tx.scalars(text("select distinct minute from queue_samples")).all() == [NOW + KEPT + MINUTE]


def test_a_percentile_is_within_its_bucket() -> None:
    assert estimate_percentile([0] * 16, 0.95) is None
    assert estimate_percentile([10, 0, 0], 0.5) == 0.005
    assert estimate_percentile([0] * 15 + [1], 0.95) == 3600


TOPIC = f"{TOPIC_PREFIX}{PUSH.name}"


def test_a_topic_has_samples_while_it_is_not_idle_and_points_of_zero_between(tx: Connection) -> None:
    add_work(tx, PUSH.name, count=2, created_at=NOW)
    sample(tx, 0)
    finish(tx, 2, 2.0)
    for minutes in (1, 9, 10, 11):
        sample(tx, minutes)
    add_work(tx, PUSH.name, count=3, created_at=NOW + 12 * MINUTE)
    sample(tx, 12)

    found = tx.scalars(
        text("select minute from queue_samples where queue = :name order by 1"), {"name": TOPIC}
    )
    assert [(at - NOW) // MINUTE for at in found] == [0, 1, 12]
    points = list_points(tx, TOPIC, NOW, NOW + 12 * MINUTE, MINUTE)
    rates = [((one.at - NOW) // MINUTE, one.ready, one.in_rate, one.out_rate) for one in points]
    assert rates == [
        (0, 2, None, None), (1, 0, 0, 2), (9, 0, 0, 0), (10, 0, 0, 0), (11, 0, 0, 0), (12, 3, 3, 0),
    ]  # fmt: skip


def test_the_points_of_topics_are_those_of_their_queue(tx: Connection) -> None:
    for minutes in range(8):
        add_work(tx, PUSH.name, count=1 + minutes % 3, created_at=NOW + minutes * MINUTE)
        if minutes % 2:
            finish(tx, 2, 2.0)
        sample(tx, minutes)

    of_topic, of_queue = (
        list_points(tx, name, NOW, NOW + 9 * MINUTE, 2 * MINUTE) for name in (TOPIC, "inventory")
    )
    assert of_topic == of_queue


def test_old_samples_of_topics_are_deleted(tx: Connection) -> None:
    add_work(tx, PUSH.name)
    sample(tx, 0)
    tx.execute(text("delete from work_queue"))
    sample(tx, (KEPT + MINUTE) / MINUTE)

    assert tx.scalar(text("select count(*) from queue_samples where queue = :name"), {"name": TOPIC}) == 0
