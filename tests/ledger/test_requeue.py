"""Requeue, discard and unlock of rows by a person; each change is audited."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text, update

from services.core.db import transaction
from services.ledger.filters import FilterInvalid, WorkFilter
from services.ledger.requeue import (
    discard,
    find_discardable,
    find_requeueable,
    find_stuck,
    id_ranges,
    requeue,
    unlock,
)
from services.ledger.tables import work_queue
from tests.ledger_rows import NOW, plan, rows_of, statuses

ALL = WorkFilter()


def set_rows(engine: Engine, ids: list[int], **values: Any) -> None:
    """Update rows as a worker would leave them."""
    with transaction(engine) as tx:
        tx.execute(update(work_queue).where(work_queue.c.id.in_(ids)).values(**values))


def audit_of(tx: Connection, action: str) -> list[Any]:
    """Return the audited mutations of an action."""
    query = text(
        "select e.shop_id, e.staff_label, m.summary, m.before, m.after from audit_events e "
        "join audit_mutations m on m.event_id = e.id where e.action = :action order by e.id, m.place"
    )
    return list(tx.execute(query, {"action": action}))


def requeue_all(engine: Engine, wanted: WorkFilter = ALL) -> int:
    with transaction(engine) as tx:
        return len(requeue(tx, wanted, now=NOW, by="ada", reason="provider is back"))


def test_requeued_row_is_as_new_and_keeps_its_last_error(engine: Engine) -> None:
    ids = plan(engine, "inventory_push", 1)
    set_rows(
        engine, ids, status="dead", retry_count=12, next_retry_at=NOW, dispatched_at=NOW, dispatch_count=9,
        finished_at=NOW, last_error="no answer", error_code="shopify.unavailable",
    )  # fmt: skip

    assert requeue_all(engine) == 1

    with transaction(engine) as tx:
        (row,) = rows_of(tx)
    fresh = (
        "next_retry_at",
        "dispatched_at",
        "finished_at",
        "locked_at",
        "locked_by",
        "lease_until",
        "result",
    )
    assert {name: row[name] for name in fresh} == dict.fromkeys(fresh)
    assert (row["status"], row["retry_count"], row["dispatch_count"]) == ("pending", 0, 0)
    assert (row["last_error"], row["error_code"]) == ("no answer", "shopify.unavailable")


def test_requeue_takes_dead_and_error_and_leaves_the_rest(engine: Engine) -> None:
    ids = plan(engine, "inventory_push", 5)
    for row_id, status in zip(ids, ("dead", "error", "done", "discarded", "pending"), strict=True):
        set_rows(engine, [row_id], status=status)

    assert requeue_all(engine) == 2
    assert statuses(engine) == {"pending": 3, "done": 1, "discarded": 1}


def test_discarded_work_comes_back_when_named(engine: Engine) -> None:
    set_rows(engine, plan(engine, "inventory_push", 1), status="discarded")

    assert requeue_all(engine, WorkFilter(statuses=("discarded",))) == 1


def test_done_work_is_refused_with_the_way_to_do_it_again(engine: Engine) -> None:
    with pytest.raises(FilterInvalid, match="fleet events replay"):
        requeue_all(engine, WorkFilter(statuses=("done",)))


def test_locked_row_is_left_alone(engine: Engine) -> None:
    leased, held = plan(engine, "inventory_push", 2)
    set_rows(engine, [leased, held], status="error")
    set_rows(engine, [leased], locked_at=NOW, locked_by="worker")

    with transaction(engine) as worker:
        worker.execute(text("select 1 from work_queue where id = :id for update"), {"id": held})
        assert requeue_all(engine) == 0


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (WorkFilter(), 5),
        (WorkFilter(queue="inventory"), 3),
        (WorkFilter(topic="order_ingest"), 2),
        (WorkFilter(queue="inventory", topic="inventory_push"), 3),
        (WorkFilter(shop_id=2), 1),
        (WorkFilter(statuses=("error",)), 1),
        (WorkFilter(since=NOW), 5),
        (WorkFilter(since=NOW + timedelta(seconds=1)), 0),
        (WorkFilter(ids=(1, 2, 99)), 2),
    ],
)
def test_every_part_of_a_filter_narrows(engine: Engine, wanted: WorkFilter, count: int) -> None:
    pushes = plan(engine, "inventory_push", 2) + plan(engine, "inventory_push", 1, shop_id=2)
    set_rows(engine, pushes + plan(engine, "order_ingest", 2), status="dead")
    set_rows(engine, pushes[:1], status="error")

    with transaction(engine) as tx:
        assert find_requeueable(tx, wanted).count == count
    assert requeue_all(engine, wanted) == count


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"queue": "mail"}, "queue='mail' should be one of webhooks, inventory"),
        ({"topic": "push"}, "topic=.push. is none of the .* did you mean .inventory_push"),
        ({"statuses": ("lost",)}, "status='lost' should be one of pending"),
        ({"queue": "email", "topic": "inventory_push"}, "runs on queue 'inventory'"),
    ],
)
def test_typing_error_in_a_filter_is_named_with_what_exists(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FilterInvalid, match=message):
        WorkFilter(**fields)


def test_preview_shows_ten_and_counts_all(engine: Engine) -> None:
    ids = plan(engine, "inventory_push", 12)
    set_rows(engine, ids, status="dead", error_code="refused")

    with transaction(engine) as tx:
        found = find_requeueable(tx, ALL)
    assert (found.count, [row["id"] for row in found.examples]) == (12, ids[:10])
    assert statuses(engine) == {"dead": 12}


def test_requeue_is_audited_on_each_shops_chain(engine: Engine) -> None:
    set_rows(engine, plan(engine, "inventory_push", 3), status="dead")
    set_rows(engine, plan(engine, "inventory_push", 1, shop_id=2), status="error")

    requeue_all(engine)

    with transaction(engine) as tx:
        first, second = audit_of(tx, "work.requeue")
    assert (first.shop_id, first.staff_label, first.before) == (1, "ada", {"status": "dead"})
    assert first.after == {"ids": "1-3", "reason": "provider is back", "status": "pending"}
    assert first.summary == "requeued 3 of inventory_push that were dead: provider is back"
    assert (second.shop_id, second.after["ids"]) == (2, "4")


def test_requeue_of_nothing_audits_nothing(engine: Engine) -> None:
    assert requeue_all(engine) == 0
    with transaction(engine) as tx:
        assert audit_of(tx, "work.requeue") == []


def test_discarded_work_is_final_and_says_why(engine: Engine) -> None:
    dead, _ = plan(engine, "inventory_push", 2)
    set_rows(engine, [dead], status="dead")

    with transaction(engine) as tx:
        assert find_discardable(tx, ALL).count == 1
        assert len(discard(tx, ALL, now=NOW, by="ada", reason="shop closed")) == 1
    with transaction(engine) as tx:
        first, second = rows_of(tx)
        assert (first["status"], first["finished_at"], second["status"]) == ("discarded", NOW, "pending")
        assert [entry.after["reason"] for entry in audit_of(tx, "work.discard")] == ["shop closed"]
        assert len(discard(tx, WorkFilter(statuses=("pending",)), now=NOW, by="ada", reason="too")) == 1
    assert statuses(engine) == {"discarded": 2}


@pytest.mark.parametrize("reason", ["", "  "])
def test_discard_without_a_reason_is_refused(tx: Connection, reason: str) -> None:
    with pytest.raises(FilterInvalid, match="reason is empty"):
        discard(tx, ALL, now=NOW, by="ada", reason=reason)


@pytest.mark.parametrize("status", ["done", "discarded"])
def test_final_work_cannot_be_discarded(tx: Connection, status: str) -> None:
    with pytest.raises(FilterInvalid, match="is final"):
        discard(tx, WorkFilter(statuses=(status,)), now=NOW, by="ada", reason="x")


def test_unlock_frees_old_locks_only_and_counts_no_try(engine: Engine) -> None:
    old, young, _ = plan(engine, "inventory_push", 3)
    set_rows(
        engine, [old], locked_at=NOW - timedelta(minutes=16), locked_by="w", lease_until=NOW, retry_count=2
    )
    set_rows(engine, [young], locked_at=NOW - timedelta(minutes=14), locked_by="w")
    quarter = timedelta(minutes=15)

    with transaction(engine) as tx:
        assert [row["id"] for row in find_stuck(tx, ALL, older_than=quarter, now=NOW).examples] == [old]
        freed = unlock(tx, ALL, older_than=quarter, now=NOW, by="ada", reason="worker hangs")

    assert [(ref.id, ref.queue, ref.topic) for ref in freed] == [(old, "inventory", "inventory_push")]
    with transaction(engine) as tx:
        rows = {row["id"]: row for row in rows_of(tx)}
        assert len(audit_of(tx, "work.unlock")) == 1
    assert (rows[old]["locked_at"], rows[old]["locked_by"], rows[old]["lease_until"]) == (None, None, None)
    assert (rows[old]["status"], rows[old]["retry_count"]) == ("pending", 2)
    assert rows[young]["locked_by"] == "w"


def test_ids_are_written_short() -> None:
    assert id_ranges([170, 101, 102, 103]) == "101-103,170"
    assert id_ranges([]) == ""


@given(st.sets(st.integers(1, 300)))
def test_short_ids_say_exactly_those_ids(ids: set[int]) -> None:
    read: set[int] = set()
    for part in filter(None, id_ranges(ids).split(",")):
        first, _, last = part.partition("-")
        read |= set(range(int(first), int(last or first) + 1))

    assert read == ids
