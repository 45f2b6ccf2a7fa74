"""A paused scope has no claims until it is cleared; a drain covers the work that waited at its begin."""

from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.claim import claim_transactional
from services.ledger.filters import FilterInvalid
from services.ledger.pause import PauseScope, clear_pauses, end_pauses, list_pauses, record_pause
from services.ledger.sweep import sweep
from services.ledger.topics import TOPICS
from services.shops.shops import add_shop
from tests.ledger_rows import NOW, plan

INVENTORY = PauseScope(queue="inventory")
LATER = NOW + timedelta(hours=1)


def claimed(engine: Engine, topic: str = "order_ingest") -> int:
    with engine.connect() as tx, tx.begin() as outer:
        count = len(claim_transactional(tx, TOPICS[topic], LATER).items)
        outer.rollback()
    return count


def test_pause_is_in_force_until_it_is_cleared(tx: Connection) -> None:
    made = record_pause(tx, INVENTORY, "hold", now=NOW, by="ada", reason="counting")

    assert list_pauses(tx) == [made]
    assert (made.scope, made.mode, made.created_by, made.reason) == (
        INVENTORY,
        "hold",
        "ada",
        "counting",
    )
    assert clear_pauses(tx, [INVENTORY], None, now=LATER, by="ada") == [INVENTORY]
    assert list_pauses(tx) == []


def test_pausing_twice_replaces_the_mode(tx: Connection) -> None:
    record_pause(tx, INVENTORY, "hold", now=NOW, by="ada")
    record_pause(tx, INVENTORY, "refuse", now=LATER, by="ben")

    (pause,) = list_pauses(tx)
    assert (pause.mode, pause.created_by, pause.created_at) == ("refuse", "ben", LATER)


def test_each_scope_is_a_pause_of_its_own(tx: Connection) -> None:
    scopes = [
        PauseScope(),
        INVENTORY,
        PauseScope(topic="order_ingest"),
        PauseScope(queue="inventory", shop_id=7),
    ]
    for scope in scopes:
        record_pause(tx, scope, "hold", now=NOW, by="ada")
    record_pause(tx, PauseScope(), "hold", now=NOW, by="ada")

    assert [pause.scope for pause in list_pauses(tx)] == scopes
    assert clear_pauses(tx, [PauseScope(shop_id=7)], None, now=NOW, by="ada") == []
    assert clear_pauses(tx, [PauseScope()], None, now=NOW, by="ada") == [PauseScope()]
    assert [pause.scope for pause in list_pauses(tx)] == scopes[1:]


def test_paused_work_is_not_claimed_and_resumed_work_is(engine: Engine) -> None:
    plan(engine, "order_ingest", 3)
    scope = PauseScope(topic="order_ingest")
    with transaction(engine) as tx:
        record_pause(tx, scope, "hold", now=NOW, by="ada")
    assert claimed(engine) == 0

    with transaction(engine) as tx:
        clear_pauses(tx, [scope], None, now=NOW, by="ada")
    assert claimed(engine) == 3


def test_drain_lets_through_its_rate_and_covers_what_came_in_during_the_pause(engine: Engine) -> None:
    scope = PauseScope(topic="order_ingest")
    with transaction(engine) as tx:
        record_pause(tx, scope, "hold", now=NOW - timedelta(hours=2), by="ada")
    plan(engine, "order_ingest", 30)
    resumed_at = LATER - timedelta(seconds=10)
    with transaction(engine) as tx:
        assert clear_pauses(tx, [scope], 1.0, now=resumed_at, by="ada") == [scope]
        sweep(tx, resumed_at, {})

    with transaction(engine) as tx:
        (pause,) = list_pauses(tx)
    assert (pause.mode, pause.rate_per_second, pause.created_at) == ("drain", 1.0, resumed_at)
    assert 1 <= claimed(engine) <= 10


def test_clearing_what_is_not_paused_changes_and_audits_nothing(tx: Connection) -> None:
    assert clear_pauses(tx, [INVENTORY], 5, now=NOW, by="ada") == []
    assert tx.scalar(text("select count(*) from audit_events")) == 0


def test_pause_and_resume_are_audited_on_the_chain_they_concern(tx: Connection) -> None:
    shop = add_shop(tx, slug="mill", name="Mill", timezone="UTC", currency="CAD", now=NOW).id
    of_shop = PauseScope(queue="inventory", shop_id=shop)
    record_pause(tx, of_shop, "hold", now=NOW, by="ada", reason="counting")
    clear_pauses(tx, [of_shop], 20, now=NOW, by="ben")
    record_pause(tx, PauseScope(), "refuse", now=NOW, by="ada")

    recorded = tx.execute(
        text(
            "select e.shop_id, e.staff_label, e.action, m.summary from audit_events e "
            "join audit_mutations m on m.event_id = e.id "
            "where e.action like 'queue.%' order by e.id"
        )
    )
    assert [tuple(row) for row in recorded] == [
        (shop, "ada", "queue.pause", "paused queue inventory, shop mill (hold)"),
        (shop, "ben", "queue.resume", "resumed queue inventory, shop mill at 20 items/s"),
        (None, "ada", "queue.pause", "paused everything (refuse)"),
    ]


def test_wrong_scope_mode_and_rate_are_named(tx: Connection) -> None:
    with pytest.raises(FilterInvalid, match="queue='mail'"):
        PauseScope(queue="mail")
    with pytest.raises(FilterInvalid, match="mode='stop' should be one of hold, refuse"):
        record_pause(tx, INVENTORY, "stop", now=NOW, by="ada")
    with pytest.raises(FilterInvalid, match="rate=0 should be above 0"):
        clear_pauses(tx, [INVENTORY], 0, now=NOW, by="ada")


def test_a_pause_with_an_end_is_ended_by_the_sweep_and_its_work_moves_at_once(
    engine: Engine, broker_url: str
) -> None:
    from tasks.ops import sweep as sweep_task

    plan(engine, "order_ingest", 3)
    scope, began = PauseScope(topic="order_ingest"), utc_now() - timedelta(hours=2)
    with transaction(engine) as tx:
        record_pause(tx, scope, "hold", now=began, by="ada", ends_at=began + timedelta(hours=1))
        record_pause(tx, INVENTORY, "hold", now=began, by="ada", ends_at=utc_now() + timedelta(hours=1))
    with transaction(engine) as tx:
        record_pause(tx, PauseScope(shop_id=9), "refuse", now=began, by="ada")
    assert claimed(engine) == 0

    assert sweep_task()["sent_again"] == 3

    assert claimed(engine) == 3
    with transaction(engine) as tx:
        assert [pause.scope for pause in list_pauses(tx)] == [INVENTORY, PauseScope(shop_id=9)]
        audited = tx.execute(
            text(
                "select e.staff_label, m.summary, m.after->>'reason' from audit_events e "
                "join audit_mutations m on m.event_id = e.id where e.action = 'queue.resume'"
            )
        ).all()
    assert [tuple(row) for row in audited] == [("sweep", "resumed topic order_ingest", "its time is over")]


def test_two_sweeps_end_a_pause_once(engine: Engine) -> None:
    with transaction(engine) as tx:
        record_pause(tx, INVENTORY, "hold", now=NOW, by="ada", ends_at=LATER)

    with transaction(engine) as tx:
        assert end_pauses(tx, LATER - timedelta(seconds=1)) == []
        assert end_pauses(tx, LATER) == [INVENTORY]
    with transaction(engine) as tx:
        assert end_pauses(tx, LATER) == []
        assert tx.scalar(text("select count(*) from audit_events where action = 'queue.resume'")) == 1


def test_second_pause_without_an_end_removes_the_end_and_a_drain_has_none(tx: Connection) -> None:
    record_pause(tx, INVENTORY, "hold", now=NOW, by="ada", ends_at=LATER)
    assert record_pause(tx, INVENTORY, "hold", now=NOW, by="ben").ends_at is None

    record_pause(tx, INVENTORY, "hold", now=NOW, by="ada", ends_at=LATER)
    clear_pauses(tx, [INVENTORY], 5, now=NOW, by="ada")
    assert end_pauses(tx, LATER) == []
    assert [(pause.mode, pause.ends_at) for pause in list_pauses(tx)] == [("drain", None)]


def test_an_end_that_has_passed_is_refused(tx: Connection) -> None:
    with pytest.raises(FilterInvalid, match="ends_at=2026-11-20T12:00:00"):
        record_pause(tx, INVENTORY, "hold", now=NOW, by="ada", ends_at=NOW)
