"""A chain has no gap, hashes what is stored, and belongs to one shop or to the fleet."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from services.audit.append import WORK_ID_TAKEN, append_all, append_now
from services.audit.chain import (
    FIRST_PREV_HASH,
    AuditEntry,
    Mutation,
    mutations_text,
)
from services.core.db import transaction
from tests.audit.chains import AuditEvent, canonical_text, hash_event

NOW = datetime(2026, 11, 20, 12, 0, 0, 5, tzinfo=UTC)


def append(tx: Connection, shop_id: int | None = 1, *mutations: Mutation) -> int:
    given = mutations or [Mutation("work_queue", "7", "did it", {"status": "dead"}, None)]
    return append_now(tx, AuditEntry(shop_id, "ada", "test", "r-1", given), NOW)


def read_event(tx: Connection, event_id: int) -> tuple[AuditEvent, str, str]:
    """Return an event of the database with its previous hash and its hash."""
    row = tx.execute(text("select * from audit_events where id = :id"), {"id": event_id}).one()
    event = AuditEvent(
        row.shop_id, row.seq, row.at, row.staff_label, row.action, row.request_id, row.work_id, row.mutations
    )
    return event, row.prev_hash, row.hash


def test_hash_of_what_is_read_is_the_hash_that_was_written(tx: Connection) -> None:
    document = {
        "ä": 'ß\u2028\n"',
        "big": 2**63 - 1,
        "none": None,
        "deep": [{"at": NOW, "sum": Decimal("1.50")}],
    }
    event_id = append(
        tx, 1, Mutation("t", "1", "first", None, document), Mutation("t", "2", "second", {}, None)
    )

    event, prev_hash, stored = read_event(tx, event_id)

    assert hash_event(prev_hash, event) == stored
    shown = tx.execute(
        text("select summary, before, after from audit_mutations where event_id = :id order by place"),
        {"id": event_id},
    ).all()
    assert [row.summary for row in shown] == ["first", "second"]
    assert shown[0].after["deep"] == [{"at": "2026-11-20T12:00:00.000005+00:00", "sum": "1.50"}]
    assert (shown[1].before, shown[1].after) == ({}, None)


def test_chain_begins_at_one_and_each_hash_covers_the_one_before(tx: Connection) -> None:
    events = [read_event(tx, append(tx)) for _ in range(3)]

    assert [event.seq for event, _, _ in events] == [1, 2, 3]
    assert [prev for _, prev, _ in events] == [FIRST_PREV_HASH, events[0][2], events[1][2]]


def test_each_shop_and_the_fleet_has_a_separate_chain(tx: Connection) -> None:
    places = [(shop_id, read_event(tx, append(tx, shop_id))[0].seq) for shop_id in (1, 2, None, 1, None)]

    assert places == [(1, 1), (2, 1), (None, 1), (1, 2), (None, 2)]


def entry(shop_id: int | None, work_id: int | None = None) -> AuditEntry:
    return AuditEntry(shop_id, "webhook", "test", "r-1", [Mutation("orders", "7", "did it")], work_id)


def appended(tx: Connection, entries: Sequence[AuditEntry]) -> list[int]:
    """Append ``entries`` and return the ids of the new events."""
    last = tx.execute(text("select coalesce(max(id), 0) from audit_events")).scalar_one()
    append_all(tx, entries, NOW)
    return list(
        tx.execute(text("select id from audit_events where id > :last order by id"), {"last": last}).scalars()
    )


def test_a_set_is_appended_to_each_chain_in_the_order_given(tx: Connection) -> None:
    append(tx, 2)

    append_all(tx, [entry(2, 11), entry(None), entry(1, 12), entry(2, 13)], NOW)

    rows = tx.execute(
        text("select shop_id, seq, work_id from audit_events order by shop_id nulls first, seq")
    )
    assert [tuple(row) for row in rows] == [
        (None, 1, None), (1, 1, 12), (2, 1, None), (2, 2, 11), (2, 3, 13)
    ]  # fmt: skip


def test_fleet_work_with_shop_0_uses_the_fleet_chain(tx: Connection) -> None:
    (event_id,) = appended(tx, [entry(0, 11)])

    event, prev_hash, stored = read_event(tx, event_id)
    assert (event.shop_id, hash_event(prev_hash, event)) == (None, stored)


def test_an_item_of_work_is_audited_once(tx: Connection) -> None:
    assert len(appended(tx, [entry(1, 11), entry(1, 11)])) == 1
    assert appended(tx, [entry(1, 11)]) == []


def test_item_audited_in_an_earlier_transaction_is_passed_over_and_others_join_its_chain(
    engine: Engine,
) -> None:
    with transaction(engine) as tx:
        append_all(tx, [entry(1, 11)], NOW)
    with transaction(engine) as tx:
        append_all(tx, [entry(1, 10), entry(1, 11), entry(1, 12)], NOW)
    with transaction(engine) as tx:
        chain = tx.execute(text("select seq, work_id from audit_events order by seq")).all()

    assert [tuple(row) for row in chain] == [(1, 11), (2, 10), (3, 12)]


@pytest.mark.parametrize(
    "other",
    [
        AuditEntry(2, "webhook", "test", "r-1", entry(1).mutations, 11),
        AuditEntry(None, "webhook", "test", "r-1", entry(1).mutations, 11),
        AuditEntry(1, "mallory", "test", "r-1", entry(1).mutations, 11),
        AuditEntry(1, "webhook", "other", "r-1", entry(1).mutations, 11),
        AuditEntry(1, "webhook", "test", "r-2", entry(1).mutations, 11),
        AuditEntry(1, "webhook", "test", "r-1", [], 11),
    ],
)
def test_an_event_of_work_to_come_suppresses_no_other_event_of_that_work(
    engine: Engine, other: AuditEntry
) -> None:
    with transaction(engine) as tx:
        append_all(tx, [other], NOW)
    with transaction(engine) as tx:
        append_all(tx, [entry(1, 10), entry(1, 11), entry(1, 12)], NOW)
    with transaction(engine) as tx:
        rows = tx.execute(
            text("select action, work_id, mutations from audit_events where id > 1 order by seq, id")
        ).all()

    assert [(row.action, row.work_id) for row in rows] == [
        ("test", 10), ("test", None), (WORK_ID_TAKEN, None), ("test", 12)
    ]  # fmt: skip
    assert [row.mutations for row in rows if row.action == "test"] == [mutations_text(entry(1).mutations)] * 3
    assert "work item 11 has another event" in rows[2].mutations


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=4))
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_text_is_read_back_as_it_was_hashed(tx: Connection, texts: list[str]) -> None:
    entries = [
        AuditEntry(
            1,
            sample,
            sample,
            sample,
            [Mutation(sample, sample, sample, {sample: sample}, {"b": sample, "a": sample})],
        )
        for sample in texts
    ]

    event_ids = appended(tx, entries)

    assert len(event_ids) == len(entries)
    for event_id in event_ids:
        event, prev_hash, stored = read_event(tx, event_id)
        assert hash_event(prev_hash, event) == stored
        shown = tx.execute(
            text("select table_name, row_id, summary, before from audit_mutations where event_id = :id"),
            {"id": event_id},
        ).one()
        sample = event.staff_label
        assert tuple(shown) == (sample, sample, sample, {sample: sample})


def test_missing_before_is_sql_null_and_not_json_null(tx: Connection) -> None:
    append(tx, 1, Mutation("t", "1", "made", None, {"a": None}))

    row = tx.execute(
        text("select before is null as absent, after->'a' = 'null' as kept from audit_mutations")
    ).one()
    assert (row.absent, row.kept) == (True, True)


def test_concurrent_appends_make_one_chain_without_gap_or_fork(engine: Engine) -> None:
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
    ["update audit_events set staff_label = 'ben'", "delete from audit_events", "truncate audit_events"],
)
def test_application_role_cannot_change_old_events(tx: Connection, statement: str) -> None:
    append(tx)

    with pytest.raises(ProgrammingError, match="permission denied"), tx.begin_nested():
        tx.execute(text(statement))


@pytest.mark.parametrize("value", [2**80, b"bytes", {1, 2}, "nul\0", datetime(2026, 1, 1), object()])  # noqa: DTZ001
def test_value_without_an_exact_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        mutations_text([Mutation("t", "1", "s", None, {"value": value})])


@pytest.mark.parametrize("text", [r"\u0000", r"C:\\u0000", r'"\u0000'])
def test_text_that_looks_like_the_escape_of_a_nul_character_is_recorded(tx: Connection, text: str) -> None:
    append(tx, 1, Mutation("t", "1", text, None, {"value": text}))

    assert tx.exec_driver_sql("select summary, after->>'value' from audit_mutations").all() == [(text, text)]
    with pytest.raises(TypeError):
        mutations_text([Mutation("t", "1", "s", None, {"value": f"{text}\0"})])


def test_same_moment_in_another_zone_is_the_same_event() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=-8)))

    def event(at: datetime) -> AuditEvent:
        return AuditEvent(1, 1, at, "a", "b", "c", None, "[]")

    assert canonical_text(event(NOW)) == canonical_text(event(there))


def test_the_text_and_the_hash_of_an_event_are_what_earlier_versions_wrote() -> None:
    change = Mutation("t", "1", 'ä "quoted"', None, {"sum": Decimal("1.50"), "at": NOW})
    event = AuditEvent(7, 3, NOW, "ada\n", "shop.set", "r-é", None, mutations_text([change]))

    assert canonical_text(event) == (
        '{"action":"shop.set","at":"2026-11-20T12:00:00.000005+00:00","mutations":[{"after":{"at":'
        '"2026-11-20T12:00:00.000005+00:00","sum":"1.50"},"before":null,"row_id":"1","summary":'
        '"ä \\"quoted\\"","table_name":"t"}],"request_id":"r-é","seq":3,"shop_id":7,"staff_label":"ada\\n",'
        '"work_id":null}'
    )
    assert hash_event(FIRST_PREV_HASH, event) == (
        "d33bba259de85fe91f973f69679a4a4a0bc29964ced66f6db7653fbd0e136242"
    )
    assert hash_event("a" * 64, event._replace(shop_id=None, work_id=9)) == (
        "16d771e9fed0715abd217e68cc787af5bee9db634b059f61a18597eca906b128"
    )


@given(st.sampled_from(["staff_label", "action", "request_id"]), st.text(min_size=1, max_size=5))
def test_any_altered_field_alters_the_hash(field: str, addition: str) -> None:
    fields = {"staff_label": "ada", "action": "requeue", "request_id": "r"}

    def digest(changed: dict[str, str]) -> str:
        event = AuditEvent(shop_id=1, seq=1, at=NOW, work_id=None, mutations="[]", **changed)
        return hash_event(FIRST_PREV_HASH, event)

    assert digest(fields) != digest(fields | {field: fields[field] + addition})
