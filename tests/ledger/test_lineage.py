"""The timeline of an event and of work: every recorded step once, the oldest first, read by indexes alone."""

from datetime import timedelta
from random import Random
from typing import Any

from sqlalchemy import Connection, Engine, event, text

from services.audit.append import Mutation, append_change
from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.audit_text import audit_entry
from services.ledger.filters import EventFilter, WorkFilter
from services.ledger.lineage import LineageStep, list_lineage
from services.ledger.queries import get_work
from services.ledger.replay import replay_events
from services.ledger.requeue import discard, requeue
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import Done, HandlerResult, NewWork, WorkItem
from tests.ledger.test_event_edit import BODY, EDITED, edit
from tests.ledger.test_replay import LATER
from tests.ledger_rows import NOW, accept, new_event

_KILL = "update work_queue set status = 'dead', error_code = 'a.b', finished_at = now() where id = 3"
_ADD_FLEETS = """
insert into work_queue (shop_id, queue, topic, created_at) values (0, 'reports', 'retention', now())
"""
_ADD_MANY = (
    "alter table audit_events disable trigger audit_events_follow",
    """
insert into inbound_events (shop_id, provider, topic, delivery_key, body)
select 1, 'shopify', 'x', i::text, '' from generate_series(1, 5000) i""",
    """
insert into work_queue (shop_id, queue, topic, event_id)
select 1, 'webhooks', 'x', i from generate_series(100, 5000) i""",
    """
insert into audit_events (shop_id, seq, at, staff_label, action, request_id, work_id, mutations, prev_hash,
  hash)
select 1, i, now(), '', 'x', '', i, '[]', '', '' from generate_series(100, 30000) i""",
    "alter table audit_events enable trigger audit_events_follow",
    "analyze inbound_events, work_queue, audit_events",
)


def ingest(_tx: Connection, items: list[WorkItem], _now: object) -> HandlerResult:
    """Audit each item, and plan a push and nothing else."""
    audit = [audit_entry(item, [Mutation("orders", item.key, "recorded the order")]) for item in items]
    new = [NewWork(shop_id=item.shop_id, topic="inventory_push", key=item.key, event_id=item.event_id,
                   request_id=item.request_id) for item in items]  # fmt: skip
    return HandlerResult([Done()] * len(items), new, audit)


def read(shop_id: int = 1, **row: Any) -> list[LineageStep]:
    with transaction() as tx:
        return list_lineage(tx, shop_id, **row)


def list_texts(steps: list[LineageStep]) -> list[tuple[str, str]]:
    return [(one.kind, one.text) for one in steps]


def add_story(engine: Engine) -> None:
    """Receive a webhook twice, do its work, edit and replay it; a mail and acts of people follow."""
    occurred_at = NOW - timedelta(minutes=1)
    accept(engine, new_event(1, body=BODY, occurred_at=occurred_at), new_event(1, body=BODY), new_event(2))
    TransactionalRunner(engine, "tester", Random(1)).run_batch(TOPICS["order_ingest"], ingest)
    edit(edited=EDITED)
    with transaction() as tx:
        replay_events(tx, EventFilter(ids=(2,)), now=LATER, by="ada")
        replay_events(tx, EventFilter(ids=(1,)), now=LATER, by="ada")
        tx.execute(text(_KILL))
        mail = Mutation("mail_outbox", "9", "sent the mail to the owner")
        append_change(tx, "mail.sent", {1: [mail]}, by="mail_send", now=LATER, request_id="request-1")
        other = Mutation("mail_outbox", "8", "sent another mail")
        append_change(tx, "mail.sent", {1: [other]}, by="mail_send", now=LATER, request_id="request-x")
    with transaction() as tx:
        requeue(tx, WorkFilter(ids=(3, 4)), by="bob", now=LATER, reason="again")
        discard(tx, WorkFilter(ids=(4,), statuses=("pending",)), by="bob", now=LATER, reason="not that one")


def test_an_event_has_its_deliveries_copies_work_effects_mails_and_acts_in_order(engine: Engine) -> None:
    add_story(engine)

    steps = read(event_id=1)

    assert [one.at for one in steps] == sorted(one.at for one in steps)
    texts = list_texts(steps)
    assert texts[:2] == [
        ("received", "happened at shopify"),
        ("received", "event 1, shopify orders/create, delivery delivery-1 (webhook), then 1 more time"),
    ]
    assert ("edit", "event 3, an edit of event 1") in texts
    assert ("replay", "event 5, a replay of event 1") in texts
    assert ("work", "work 1 order_ingest: done (done)") in texts
    assert ("effect", "orders/create: recorded the order") in texts
    assert ("act", "mail.sent: sent the mail to the owner") in texts
    assert ("work", "work 3 inventory_push: dead, requeued later") in texts
    whole = " ".join(one for _, one in texts)
    for found in (
        "work.requeue: requeued 1 of inventory_push",
        "event.edit: recorded event 3",
        "event.replay:",
    ):
        assert whole.count(found) == 1
    for missing in ("event 2,", "work 2 ", "another mail", "not that one"):
        assert missing not in whole


def test_every_copy_of_an_event_has_the_same_timeline(engine: Engine) -> None:
    add_story(engine)

    assert read(event_id=1) == read(event_id=3) == read(event_id=5) != read(event_id=2)


def test_work_without_an_event_has_its_own_steps(engine: Engine) -> None:
    with transaction() as tx:
        tx.execute(text(_ADD_FLEETS))
        only = WorkFilter(ids=(1,), statuses=("pending",))
        discard(tx, only, by="bob", now=utc_now(), reason="not now")
    with transaction() as tx:
        row = get_work(tx, 1)

    assert [one.kind for one in read(0, work=row)] == ["work", "work", "act"]
    assert read(1, event_id=7) == []


def test_acts_on_many_rows_are_found_by_their_ranges(engine: Engine) -> None:
    accept(engine, *(new_event(number, readable=False) for number in range(1, 13)))
    with transaction() as tx:
        requeue(tx, WorkFilter(shop_id=1), by="bob", now=LATER)

    for number in (1, 7, 12):
        assert "requeued 12 of order_ingest" in " ".join(
            text for _, text in list_texts(read(event_id=number))
        )


def test_a_timeline_scans_no_table(engine: Engine, owner_engine: Engine) -> None:
    add_story(engine)
    with owner_engine.begin() as tx:
        for statement in _ADD_MANY:
            tx.execute(text(statement))
    plans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if not statement.startswith("explain"):
            plans.extend(connection.exec_driver_sql(f"explain {statement}", parameters).scalars())

    with transaction() as tx:
        row = get_work(tx, 1)
        event.listen(tx, "before_cursor_execute", explain)
        list_lineage(tx, 1, work=row)

    assert len(plans) > 8
    assert [line for line in plans if "Seq Scan" in line] == []
    for index in ("ix_inbound_events_replay_of", "ix_audit_events_by_people", "uq_audit_events_seq"):
        assert any(index in line for line in plans), index
