"""A chain has no gap, hashes what is stored, and belongs to one shop or to the fleet."""

import threading
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from services.audit.append import append_audit
from services.audit.chain import FIRST_PREV_HASH, AuditEvent, Mutation, canonical_bytes, hash_event, to_plain
from services.core.db import transaction

NOW = datetime(2026, 11, 20, 12, 0, 0, 5, tzinfo=UTC)


def append(tx: Connection, shop_id: int | None = 1, *mutations: Mutation) -> int:
    return append_audit(
        tx,
        shop_id=shop_id,
        staff_label="ada",
        action="test",
        request_id="r-1",
        now=NOW,
        mutations=mutations or [Mutation("work_queue", "7", "did it", {"status": "dead"}, None)],
    )


def read_event(tx: Connection, event_id: int) -> tuple[AuditEvent, str, str]:
    """An event as the database has it, with the hash before it and its own."""
    row = tx.execute(text("select * from audit_events where id = :id"), {"id": event_id}).one()
    mutations = tx.execute(
        text(
            "select table_name, row_id, summary, before, after from audit_mutations "
            "where event_id = :id order by id"
        ),
        {"id": event_id},
    )
    event = AuditEvent(
        shop_id=row.shop_id,
        seq=row.seq,
        at=row.at,
        staff_label=row.staff_label,
        action=row.action,
        request_id=row.request_id,
        mutations=[Mutation(*mutation) for mutation in mutations],
    )
    return event, row.prev_hash, row.hash


def test_hash_of_what_is_read_is_the_hash_that_was_written(tx: Connection) -> None:
    document = {"ä": 'ß\u2028\n"', "big": 2**80, "none": None, "deep": [{"at": NOW, "sum": Decimal("1.50")}]}
    event_id = append(
        tx, 1, Mutation("t", "1", "first", None, document), Mutation("t", "2", "second", {}, None)
    )

    event, prev_hash, stored = read_event(tx, event_id)

    assert hash_event(prev_hash, event) == stored
    assert [mutation.summary for mutation in event.mutations] == ["first", "second"]


def test_chain_begins_at_one_and_each_hash_covers_the_one_before(tx: Connection) -> None:
    events = [read_event(tx, append(tx)) for _ in range(3)]

    assert [event.seq for event, _, _ in events] == [1, 2, 3]
    assert [prev for _, prev, _ in events] == [FIRST_PREV_HASH, events[0][2], events[1][2]]


def test_shops_and_the_fleet_have_chains_of_their_own(tx: Connection) -> None:
    places = [(shop_id, read_event(tx, append(tx, shop_id))[0].seq) for shop_id in (1, 2, None, 1, None)]

    assert places == [(1, 1), (2, 1), (None, 1), (1, 2), (None, 2)]


def test_nothing_before_is_null_and_not_the_json_word(tx: Connection) -> None:
    append(tx, 1, Mutation("t", "1", "made", None, {"a": None}))

    row = tx.execute(
        text("select before is null as absent, after->'a' = 'null' as kept from audit_mutations")
    ).one()
    assert (row.absent, row.kept) == (True, True)


def test_appends_at_once_make_one_chain_without_gap_or_fork(engine: Engine) -> None:
    def append_ten() -> None:
        for _ in range(10):
            with transaction(engine) as tx:
                append(tx)

    threads = [threading.Thread(target=append_ten) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with transaction(engine) as tx:
        rows = tx.execute(text("select seq, prev_hash, hash from audit_events order by seq")).all()
    assert [row.seq for row in rows] == list(range(1, 41))
    assert [row.prev_hash for row in rows] == [FIRST_PREV_HASH, *(row.hash for row in rows[:-1])]


def test_change_that_is_rolled_back_leaves_no_gap(engine: Engine) -> None:
    with engine.connect() as tx, tx.begin() as outer:
        append(tx)
        outer.rollback()
    with transaction(engine) as tx:
        assert read_event(tx, append(tx))[0].seq == 1


@pytest.mark.parametrize(
    "statement",
    ["update audit_events set staff_label = 'ben'", "delete from audit_mutations", "truncate audit_events"],
)
def test_application_role_cannot_alter_the_past(tx: Connection, statement: str) -> None:
    append(tx)

    with pytest.raises(ProgrammingError, match="permission denied"), tx.begin_nested():
        tx.execute(text(statement))


@pytest.mark.parametrize("value", [1.5, b"bytes", {1, 2}, "nul\0", datetime(2026, 1, 1), object()])  # noqa: DTZ001
def test_value_without_an_exact_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        to_plain({"value": value})


def test_same_moment_in_another_zone_is_the_same_event() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=-8)))

    def event(at: datetime) -> AuditEvent:
        return AuditEvent(shop_id=1, seq=1, at=at, staff_label="a", action="b", request_id="c", mutations=[])

    assert canonical_bytes(event(NOW)) == canonical_bytes(event(there))


@given(st.sampled_from(["staff_label", "action", "request_id"]), st.text(min_size=1, max_size=5))
def test_any_altered_field_alters_the_hash(field: str, addition: str) -> None:
    fields = {"staff_label": "ada", "action": "requeue", "request_id": "r"}

    def digest(changed: dict[str, str]) -> str:
        return hash_event(FIRST_PREV_HASH, AuditEvent(shop_id=1, seq=1, at=NOW, mutations=[], **changed))

    assert digest(fields) != digest(fields | {field: fields[field] + addition})
