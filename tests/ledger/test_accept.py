"""Accepting events: commit, duplicates, unreadable bodies."""

from sqlalchemy import Engine, text

from services.core.db import transaction
from tests.ledger_rows import accept, new_event, rows_of


def test_an_accepted_event_and_its_work_are_committed_together(engine: Engine) -> None:
    (accepted,) = accept(engine, new_event(1, body=b'{"id": 1}'))

    with transaction(engine) as tx:
        event = tx.execute(text("select body, origin, duplicate_count from inbound_events")).one()
        (work,) = rows_of(tx)
    assert (bytes(event.body), event.origin, event.duplicate_count) == (b'{"id": 1}', "webhook", 0)
    assert accepted.is_new
    assert accepted.work[0].id == work["id"]
    assert (work["queue"], work["topic"], work["status"]) == ("webhooks", "order_ingest", "pending")
    assert (work["event_id"], work["key"]) == (accepted.event_id, "gid://shopify/Order/1")


def test_a_delivery_seen_before_is_counted_and_plans_nothing(engine: Engine) -> None:
    (first,) = accept(engine, new_event(1))
    (again,) = accept(engine, new_event(1))

    assert (again.event_id, again.is_new, again.work) == (first.event_id, False, ())
    with transaction(engine) as tx:
        assert tx.scalar(text("select duplicate_count from inbound_events")) == 1
        assert len(rows_of(tx)) == 1


def test_copies_inside_one_group_are_one_event(engine: Engine) -> None:
    answers = accept(engine, new_event(1), new_event(2), new_event(1), new_event(1))

    assert [a.is_new for a in answers] == [True, True, False, False]
    assert answers[0].event_id == answers[2].event_id
    with transaction(engine) as tx:
        counts = tx.execute(
            text("select duplicate_count from inbound_events order by delivery_key")
        ).scalars()
        assert list(counts) == [2, 0]
        assert len(rows_of(tx)) == 2


def test_the_same_key_of_two_shops_is_two_events(engine: Engine) -> None:
    answers = accept(engine, new_event(1, shop_id=1), new_event(1, shop_id=2))
    assert [a.is_new for a in answers] == [True, True]


def test_event_without_a_plan_is_kept_without_work(engine: Engine) -> None:
    (accepted,) = accept(engine, new_event(1, topic="themes/publish"))

    assert accepted.is_new
    assert accepted.work == ()
    with transaction(engine) as tx:
        assert tx.scalar(text("select count(*) from inbound_events")) == 1


def test_an_unreadable_event_is_kept_and_waits_for_a_person(engine: Engine) -> None:
    accept(engine, new_event(1, body=b"<html>", readable=False))
    accept(engine, new_event(2, body=b"\xff\x00", readable=False, provider="stripe", topic="unreadable"))

    with transaction(engine) as tx:
        assert [(r["topic"], r["status"], r["error_code"]) for r in rows_of(tx)] == [
            ("order_ingest", "dead", "unreadable"),
            ("event_review", "dead", "unreadable"),
        ]
