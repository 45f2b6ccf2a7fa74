"""Figures of work: a backlog grows if it is larger than 15 minutes ago and its oldest item is late."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, text

from services.alerts.decide import AlertState, Change, decide
from services.alerts.evaluate import describe
from services.alerts.figures import Figure
from services.alerts.rules import FIGURE_RULES
from services.alerts.work_figures import COLLECTORS
from services.ledger.accept import record_work
from services.ledger.pause import PauseScope, record_pause
from services.ledger.topics import TOPICS
from services.ledger.work import FLEET, NewWork

NOW = datetime(2026, 11, 28, 7, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LIMIT = TOPICS["mail_send"].max_age


def add(tx: Connection, count: int, at: datetime, topic: str = "mail_send", first: int = 0) -> None:
    record_work(tx, [NewWork(shop_id=1, topic=topic, key=f"{first + n}-{at}") for n in range(count)], at)


def collect(tx: Connection, rule: str, now: datetime = NOW) -> list[Figure]:
    found = list(COLLECTORS[rule](tx, now)[rule])
    for one in found:
        assert describe(FIGURE_RULES[rule], 0, one)
    return found


def test_a_backlog_that_grew_for_15_minutes_is_late_by_its_oldest_item(tx: Connection) -> None:
    add(tx, 2, NOW - LIMIT - 4 * MINUTE)
    assert collect(tx, "backlog_growing", NOW - 16 * MINUTE) == []
    add(tx, 1, NOW)

    (found,) = collect(tx, "backlog_growing")
    assert found[:3] == (4.0, FLEET, "mail_send")
    detail = {"topic": "mail_send", "waiting": 3, "earlier": 2, "limit_minutes": LIMIT / MINUTE}
    assert found.detail == detail
    assert decide(FIGURE_RULES["backlog_growing"], 0, found.value, AlertState(), NOW)[1] is Change.OPENED


def test_a_backlog_of_the_same_size_does_not_grow(tx: Connection) -> None:
    add(tx, 2, NOW - LIMIT - 20 * MINUTE)
    collect(tx, "backlog_growing", NOW - 16 * MINUTE)

    assert collect(tx, "backlog_growing") == []


def test_a_backlog_that_is_young_enough_is_below_the_limit(tx: Connection) -> None:
    collect(tx, "backlog_growing", NOW - 16 * MINUTE)
    add(tx, 9, NOW - LIMIT + MINUTE)

    (found,) = collect(tx, "backlog_growing")
    assert found.value == -1.0
    assert decide(FIGURE_RULES["backlog_growing"], 0, found.value, AlertState(), NOW)[1] is None


@pytest.mark.parametrize("minutes", [0, 14, 25], ids=["no sample", "too new", "too old"])
def test_without_a_sample_of_15_minutes_ago_nobody_knows_that_it_grew(tx: Connection, minutes: int) -> None:
    if minutes:
        collect(tx, "backlog_growing", NOW - minutes * MINUTE)
    add(tx, 9, NOW - LIMIT - MINUTE)

    assert collect(tx, "backlog_growing") == []


@pytest.mark.parametrize(
    ("scope", "counts"),
    [
        (PauseScope(topic="mail_send"), False),
        (PauseScope(queue="email"), False),
        (PauseScope(), False),
        (PauseScope(queue="email", topic="mail_send"), False),
        (PauseScope(topic="mail_send", shop_id=7), True),
        (PauseScope(topic="inventory_push"), True),
        (PauseScope(cost="ai"), True),
    ],
    ids=str,
)
def test_a_paused_topic_grows_because_a_person_wants_it(
    tx: Connection, scope: PauseScope, counts: bool
) -> None:
    collect(tx, "backlog_growing", NOW - 16 * MINUTE)
    add(tx, 9, NOW - LIMIT - MINUTE)
    record_pause(tx, scope, "hold", now=NOW, by="ada", request_id="r")

    assert bool(collect(tx, "backlog_growing")) == counts


def test_old_samples_are_deleted(tx: Connection) -> None:
    for minutes in (40, 21, 19, 16, 0):
        collect(tx, "backlog_growing", NOW - minutes * MINUTE)

    kept = tx.scalars(text("select distinct minute from topic_backlogs order by 1")).all()
    assert kept == [(NOW - minutes * MINUTE).replace(second=0) for minutes in (19, 16, 0)]


def test_the_time_limit_of_the_count_ends_with_it(tx: Connection) -> None:
    before = tx.scalar(text("show statement_timeout"))
    collect(tx, "backlog_growing")

    assert tx.scalar(text("show statement_timeout")) == before


def test_archives_that_fail_are_counted_by_shop_and_topic(tx: Connection) -> None:
    for topic in ("audit_archive", "retention", "audit_anchor", "mail_send"):
        add(tx, 3, NOW, topic)
    assert collect(tx, "archive_failed") == []
    tx.execute(
        text(
            "update work_queue set status = 'error', error_code = 'archive.unavailable'"
            " where topic <> 'audit_anchor'"
        )
    )
    tx.execute(text("update work_queue set locked_at = now() where id = 1"))
    tx.execute(text("update work_queue set status = 'dead', locked_at = null where id = 2"))

    found = sorted(collect(tx, "archive_failed"), key=lambda one: one.subject)
    assert [one[:3] for one in found] == [(3.0, 1, "audit_archive"), (3.0, 1, "retention")]
    assert found[0].detail["code"] == "archive.unavailable"
    tx.execute(text("update work_queue set status = 'done', locked_at = null"))
    assert collect(tx, "archive_failed") == []
