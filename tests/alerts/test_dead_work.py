"""The incident of dead work counts its open items and is resolved at zero."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import Connection, text

from services.alerts.incidents import STATES, find_incidents
from services.alerts.people import resolve_by_person
from services.alerts.work_rules import record_dead_work
from services.core.errors import OutcomeUnknown, Refused, RetryLater, WorkError
from services.ledger.accept import record_work
from services.ledger.claim import claim_leased
from services.ledger.filters import WorkFilter
from services.ledger.requeue import discard, requeue
from services.ledger.settle import plan_settlement, settle_batch
from services.ledger.topics import TOPICS
from services.ledger.work import FLEET, NewWork

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
TODAY = "2026-11-21"


def die(tx: Connection, *ids: int, at: datetime = NOW, code: str = "shopify.token_refused") -> None:
    tx.execute(
        text(
            "update work_queue set status = 'dead', error_code = :code, finished_at = :at"
            " where id = any(:ids)"
        ),
        {"at": at, "ids": list(ids), "code": code},
    )


def done(tx: Connection, *ids: int) -> None:
    tx.execute(text("update work_queue set status = 'done' where id = any(:ids)"), {"ids": list(ids)})


def again(tx: Connection, *ids: int) -> None:
    requeue(tx, WorkFilter(ids=ids), now=NOW, by="ada", reason="")


def check_incidents(tx: Connection, now: datetime = NOW) -> list[tuple[object, ...]]:
    record_dead_work(tx, now)
    return [
        (line.shop_id, line.rule, line.period, line.detail["count"], line.detail["requeued"])
        for line in find_incidents(tx)
    ]


@pytest.fixture
def work(tx: Connection) -> list[int]:
    """Three dead pushes of one shop, from today."""
    new = [NewWork(shop_id=1, topic="inventory_push", key=str(n)) for n in range(3)]
    ids = [ref.id for ref in record_work(tx, new, NOW)]
    die(tx, *ids)
    assert check_incidents(tx) == [(1, "work_dead:inventory_push", TODAY, 3, 0)]
    return ids


def test_requeued_work_keeps_its_incident_open_until_it_is_done(tx: Connection, work: list[int]) -> None:
    again(tx, *work)
    assert check_incidents(tx) == [(1, "work_dead:inventory_push", TODAY, 0, 3)]
    done(tx, *work[:2])
    assert check_incidents(tx) == [(1, "work_dead:inventory_push", TODAY, 0, 1)]
    done(tx, work[2])
    assert check_incidents(tx) == []
    (line,) = find_incidents(tx, states=STATES)
    assert (line.status, line.resolved_by) == ("resolved", None)


def test_incident_counts_down_with_discarded_work_and_resolves_at_zero(
    tx: Connection, work: list[int]
) -> None:
    discard(tx, WorkFilter(ids=tuple(work[:1])), now=NOW, by="ada", reason="shop closed")
    assert check_incidents(tx) == [(1, "work_dead:inventory_push", TODAY, 2, 0)]
    discard(tx, WorkFilter(ids=tuple(work[1:])), now=NOW, by="ada", reason="shop closed")
    assert check_incidents(tx) == []


def test_an_incident_opens_again_when_work_dies_later_that_day(tx: Connection, work: list[int]) -> None:
    again(tx, *work)
    done(tx, *work)
    assert check_incidents(tx) == []
    (other,) = record_work(tx, [NewWork(shop_id=1, topic="inventory_push", key="9")], NOW)
    die(tx, other.id, at=NOW + timedelta(hours=2))
    assert check_incidents(tx) == [(1, "work_dead:inventory_push", TODAY, 1, 0)]


def test_work_that_dies_again_the_next_day_moves_to_that_day(tx: Connection, work: list[int]) -> None:
    again(tx, *work)
    done(tx, *work[1:])
    die(tx, work[0], at=NOW + timedelta(days=1))
    assert check_incidents(tx, NOW + timedelta(days=1)) == [
        (1, "work_dead:inventory_push", "2026-11-22", 1, 0)
    ]


def test_incident_stays_open_after_its_day_while_its_work_is_dead(tx: Connection, work: list[int]) -> None:
    assert check_incidents(tx, NOW + timedelta(days=3)) == [(1, "work_dead:inventory_push", TODAY, 3, 0)]
    done(tx, *work)
    assert check_incidents(tx, NOW + timedelta(days=3)) == []


def test_resolved_incident_reopens_only_when_more_work_dies(tx: Connection, work: list[int]) -> None:
    (line,) = find_incidents(tx)
    closed_at = NOW + timedelta(hours=1)
    resolve_by_person(tx, line.id, now=closed_at, by="ada", reason="known", request_id="r")
    discard(tx, WorkFilter(ids=tuple(work[:1])), now=NOW, by="ada", reason="shop closed")
    assert check_incidents(tx) == []
    (other,) = record_work(tx, [NewWork(shop_id=1, topic="inventory_push", key="9")], NOW)
    die(tx, other.id, at=closed_at + timedelta(seconds=1))
    assert check_incidents(tx) == [(1, "work_dead:inventory_push", TODAY, 3, 0)]


def test_resolved_incident_reopens_when_the_same_items_die_again(tx: Connection, work: list[int]) -> None:
    (line,) = find_incidents(tx)
    resolve_by_person(tx, line.id, now=NOW, by="ada", reason="known", request_id="r")
    again(tx, *work)
    die(tx, *work, at=NOW + timedelta(hours=2))
    assert check_incidents(tx) == [(1, "work_dead:inventory_push", TODAY, 3, 0)]


def test_work_without_a_shop_has_an_incident_without_a_shop(tx: Connection) -> None:
    (ref,) = record_work(tx, [NewWork(shop_id=FLEET, topic="audit_verify")], NOW)
    die(tx, ref.id, code="audit.altered")
    assert check_incidents(tx) == [(None, "work_dead:audit_verify", TODAY, 1, 0)]
    (line,) = find_incidents(tx)
    assert line.summary == "1 audit_verify dead, last: audit.altered (refused, and another try cannot help)"
    done(tx, ref.id)
    assert check_incidents(tx) == []


def test_second_check_writes_nothing(tx: Connection, work: list[int]) -> None:
    assert record_dead_work(tx, NOW + timedelta(minutes=1)) == 0


def test_work_that_waits_for_a_retry_is_not_dead(tx: Connection) -> None:
    (ref,) = record_work(tx, [NewWork(shop_id=1, topic="inventory_push")], NOW)
    tx.execute(
        text("update work_queue set status = 'error', error_code = 'x' where id = :id"), {"id": ref.id}
    )
    assert check_incidents(tx) == []


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [
        (Refused("shopify.unreadable_order", "no id"), "refused, and another try cannot help"),
        (RetryLater("shopify.unavailable", "502"), "all its tries are used"),
        (OutcomeUnknown("shopify.no_response", "reset"), "all its tries are used"),
    ],
    ids=["refused", "retried", "unknown"],
)
def test_the_incident_says_why_the_work_is_dead(tx: Connection, outcome: WorkError, cause: str) -> None:
    topic = TOPICS["inventory_push"]
    record_work(tx, [NewWork(shop_id=1, topic=topic.name, key="1")], NOW)
    tx.execute(text("update work_queue set retry_count = :tries"), {"tries": topic.tries - 1})
    (item,) = claim_leased(tx, topic, NOW, "t", 0).items
    settle_batch(tx, [plan_settlement(topic, item, outcome, NOW, Random(1))], NOW, "t")

    record_dead_work(tx, NOW)

    (line,) = find_incidents(tx)
    assert line.summary == f"1 inventory_push dead, last: {outcome.code} ({cause})"
