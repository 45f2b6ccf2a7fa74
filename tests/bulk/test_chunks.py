"""Bulk actions with the real runner: every row is changed once or named, across crashes and lost roles."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Row, text

from services.accounts.people import add_person, change_roles, get_person, remove_person
from services.accounts.roles import Role
from services.bulk import handler
from services.bulk.kinds import GONE, KINDS, NO_ROLE, OWN_WORK, TOPIC, RowFacts
from services.bulk.store import (
    find_bulk_action,
    find_given_up_work,
    plan_bulk_action,
    start_bulk_action,
    stop_bulk_action,
)
from services.core.clock import utc_now
from services.core.db import get_engine, transaction
from services.core.errors import InputInvalid
from services.ledger.accept import record_work
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import NewWork
from tests.killed import run_killed
from tests.ledger_rows import accept, new_event

EMAIL = "ada@example.com"
STATES = ("dead", "error", "pending", "done", "discarded", "locked", "gone", "other shop")
_ADD = """
insert into work_queue (shop_id, queue, topic, key, status, locked_at, locked_by, retry_count)
select case state when 'other shop' then 2 else 1 end, 'webhooks', 'order_ingest', n::text,
       case when state in ('locked', 'gone', 'other shop') then 'error' else state end,
       case state when 'locked' then now() - interval '1 hour' end, case state when 'locked' then 'w' end, 7
  from unnest(cast(:states as text[])) with ordinality as v(state, n) order by v.n returning id
"""
_READ = "select id, shop_id, topic, status, locked_at from work_queue where topic <> 'bulk_action'"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "CHUNK_ROWS", {"work": 3, "events": 2})


def add_operator(roles: dict[int | None, Role] | None = None) -> int:
    with transaction() as tx:
        return add_person(tx, EMAIL, "", roles or {None: Role.OPERATOR}, by="test", now=utc_now())


def add_work(states: list[str]) -> list[int]:
    with transaction() as tx:
        return list(tx.execute(text(_ADD), {"states": states}).scalars())


def start(
    action: str, user_id: int, *, key: str = "k", shops: frozenset[int] | None = None, status: str = ""
) -> int:
    """Start ``action`` on all rows of its list."""
    kind, now = KINDS[action], utc_now()
    with transaction() as tx:
        query = _READ if kind.list == "work" else "select id, shop_id, topic from inbound_events"
        rows = [RowFacts(**row._asdict()) for row in tx.execute(text(query))]
        plan = plan_bulk_action(kind, rows, kind.choose_statuses(status.split(",")), shops, now)
        filters = {"status": status} if status else {}
        return start_bulk_action(
            tx, plan, filters, user_id=user_id, request_key=key, by=EMAIL, now=now, reason="provider is back"
        )[0]


def run(engine: Engine) -> None:
    """Run all chunks that are ready."""
    runner = TransactionalRunner(engine, "tester", Random(1))
    while runner.run_batch(TOPICS[TOPIC], handler.run_bulk_actions).claimed:
        pass


def read(number: int) -> Row:  # type: ignore[type-arg]
    with transaction() as tx:
        found = find_bulk_action(tx, number)
    assert found is not None
    return found


def parse_ranges(ranges: str) -> Iterator[int]:
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def list_skipped(number: int) -> dict[int, str]:
    """Return the cause of each skipped row that is named; no row has two. The others are counted."""
    skipped = read(number).skipped
    counted = {cause: rows for cause, rows in skipped.items() if cause.endswith(", at other shops")}
    pairs = [(one, cause) for cause in skipped.keys() - counted for one in parse_ranges(skipped[cause])]
    count = sum(int(rows.partition(" ")[0]) for rows in counted.values())
    assert len(dict(pairs)) == len(pairs) == read(number).skipped_count - count
    return dict(pairs)


def count_changes(action: str = "work.requeue") -> Counter[int]:
    """Return how often each row was changed, as the audit says."""
    query = "select m.after ->> 'ids' from audit_events e join audit_mutations m on m.event_id = e.id"
    with transaction() as tx:
        found = tx.execute(text(f"{query} where e.action = :action"), {"action": action}).scalars()
        return Counter(one for ranges in found for one in parse_ranges(ranges))


@given(
    states=st.lists(st.sampled_from(STATES), min_size=1, max_size=20),
    action=st.sampled_from(["requeue", "discard", "unlock"]),
    status=st.sampled_from(["", "pending", "dead,done", "discarded,error"]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_matching_row_is_changed_once_or_named(
    engine: Engine, states: list[str], action: str, status: str
) -> None:
    with engine.begin() as tx:
        for table in ("work_queue", "bulk_actions", "users"):
            tx.execute(text(f"delete from {table}"))  # noqa: S608
    user_id, ids = add_operator({1: Role.OPERATOR, 2: Role.OPERATOR}), add_work(states)
    before = count_changes(f"work.{action}")
    try:
        number = start(action, user_id, shops=frozenset({1, 2}), status=status)
    except InputInvalid as fault:
        assert "no row can be" in str(fault)
        assert count_changes(f"work.{action}") == before
        return
    with transaction() as tx:
        taken = tx.execute(text("select row_ids from bulk_actions")).scalar_one()
        gone = [one for one, state in zip(ids, states, strict=True) if state == "gone"]
        tx.execute(text("delete from work_queue where id = any(:ids)"), {"ids": gone})
        change_roles(tx, get_person(tx, EMAIL), lambda _: {1: Role.OPERATOR}, by="test", now=utc_now())
    run(engine)

    changed, skipped = count_changes(f"work.{action}") - before, list_skipped(number)
    shop_of = {one: 2 if state == "other shop" else 1 for one, state in zip(ids, states, strict=True)}
    taken_shops = {shop_of[one] for one in taken}
    assert set(changed) | set(skipped) == {one for one in ids if shop_of[one] in taken_shops}
    assert not set(changed) & set(skipped)
    assert set(changed.values()) <= {1}
    found = read(number)
    assert (found.status, found.done_count, found.changed_count) == ("done", found.total_count, len(changed))
    for one, state in zip(ids, states, strict=True):
        if one in taken:
            assert skipped.get(one, "") == {"gone": GONE, "other shop": NO_ROLE}.get(state, "")


def test_a_worker_that_is_killed_at_each_step_loses_no_row_and_changes_none_twice(engine: Engine) -> None:
    user_id, ids = add_operator(), add_work(["dead"] * 8)
    number = start("requeue", user_id)

    step, kills = 1, 0
    while not run_killed(engine, lambda: run(get_engine()), step):
        kills += 1
        step = step % 2 + 1
    assert kills >= 3
    assert count_changes() == Counter(ids)
    assert (read(number).status, read(number).changed_count, read(number).skipped) == ("done", 8, {})


def test_events_are_replayed_once_each(engine: Engine) -> None:
    user_id = add_operator()
    ids = [one.event_id for one in accept(engine, *(new_event(n) for n in range(5)))]
    number = start("replay", user_id)
    with transaction() as tx:
        tx.execute(text("delete from inbound_events where id = :id"), {"id": ids[3]})

    run(engine)

    with transaction() as tx:
        originals = tx.execute(text("select replay_of from inbound_events where origin = 'replay'")).scalars()
        assert sorted(originals) == [*ids[:3], ids[4]]
    assert list_skipped(number) == {ids[3]: GONE}
    assert (read(number).changed_count, read(number).status) == (4, "done")


def test_the_action_of_a_person_who_was_removed_stops(engine: Engine) -> None:
    user_id = add_operator()
    add_work(["dead"] * 8)
    number = start("requeue", user_id)
    with transaction() as tx:
        remove_person(tx, get_person(tx, EMAIL), by="test", now=utc_now())

    run(engine)

    assert (read(number).status, read(number).error) == ("stopped", handler.REMOVED.format(EMAIL))
    assert count_changes() == Counter()


def test_a_stop_ends_the_action_after_its_chunk_and_a_second_stop_changes_nothing(engine: Engine) -> None:
    user_id = add_operator()
    add_work(["dead"] * 8)
    number = start("requeue", user_id)
    TransactionalRunner(engine, "tester", Random(1)).run_batch(TOPICS[TOPIC], handler.run_bulk_actions)
    with transaction() as tx:
        assert stop_bulk_action(tx, number, "stopped by ada", by="ada", now=utc_now())
        assert not stop_bulk_action(tx, number, "stopped by eve", by="eve", now=utc_now())

    run(engine)

    assert (read(number).status, read(number).error) == ("stopped", "stopped by ada")
    assert read(number).changed_count == read(number).done_count == sum(count_changes().values()) == 3


def test_a_second_start_with_one_key_is_the_first_action(engine: Engine) -> None:
    user_id = add_operator()
    add_work(["dead"] * 2)
    first = start("requeue", user_id)
    run(engine)

    assert start("requeue", user_id) == first
    with pytest.raises(InputInvalid, match=f"that of bulk action {first}"):
        start("discard", user_id)
    with transaction() as tx:
        other = add_person(tx, "eve@example.com", "", {None: Role.OPERATOR}, by="test", now=utc_now())
    assert start("discard", other, status="pending") != first


def test_work_of_a_bulk_action_is_never_taken_and_its_loss_is_found(engine: Engine) -> None:
    user_id = add_operator()
    add_work(["dead"])
    number = start("requeue", user_id)
    with transaction() as tx:
        work_id = tx.execute(text("select id from work_queue where topic = 'bulk_action'")).scalar_one()
        facts = RowFacts(work_id, 0, TOPIC, "pending")
        plan = plan_bulk_action(KINDS["discard"], [facts], ("pending",), None, utc_now())
        assert (plan.rows, plan.skipped) == ([], {OWN_WORK: [work_id]})
        assert find_given_up_work(tx, number) is None
        tx.execute(text("update work_queue set status = 'dead' where id = :id"), {"id": work_id})
        assert find_given_up_work(tx, number) == work_id


def test_a_chunk_that_was_handled_or_has_no_action_changes_nothing(engine: Engine) -> None:
    user_id = add_operator()
    add_work(["dead"] * 4)
    number = start("requeue", user_id)
    with transaction() as tx:
        for key, begin in ((str(number), 0), (str(number), 3), ("77", 0), ("x", 0)):
            new = NewWork(shop_id=0, topic=TOPIC, key=key, payload={"from": begin})
            record_work(tx, [new], utc_now() - timedelta(seconds=1))

    run(engine)

    assert set(count_changes().values()) == {1}
    assert read(number).changed_count == 4
    with transaction() as tx:
        found = tx.execute(text("select count(*) from work_queue where error_code = 'bulk.no_action'"))
        assert found.scalar_one() == 2
