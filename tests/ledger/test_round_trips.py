"""Every ledger row is read back by column name, with distinct values."""

from dataclasses import asdict
from datetime import timedelta
from random import Random
from typing import Any

from sqlalchemy import Connection, Engine, text

from services.core.db import transaction
from services.core.errors import RetryLater
from services.ledger.accept import NewEvent, record_events, record_work
from services.ledger.backlog import list_topic_figures, read_backlog
from services.ledger.claim import claim_leased, claim_transactional, find_active_pauses
from services.ledger.filters import EventFilter, WorkFilter
from services.ledger.lease import find_leased, lease_items, lock_item
from services.ledger.pause import PauseScope, clear_pauses, list_pauses, record_pause
from services.ledger.queries import get_event, get_work, list_events
from services.ledger.rate_limits import record_throttle, reserve_calls
from services.ledger.requeue import find_requeueable
from services.ledger.settle import BatchResult, plan_settlement, record_stats, settle_batch
from services.ledger.sweep import record_heartbeat
from services.ledger.sync_cursors import upsert_cursor
from services.ledger.topics import TOPICS
from services.ledger.webhook_refusals import (
    WebhookRefusals,
    delete_old_refusals,
    find_first_refusal,
    record_refusals,
)
from services.ledger.work import NewWork, WorkItem
from tests.jobs.job_rows import add_shops
from tests.ledger_rows import NOW

OWN, PUSH = TOPICS["order_ingest"], TOPICS["inventory_push"]
LATER = NOW + timedelta(hours=1)
EVENT = NewEvent(
    shop_id=7,
    provider="shopify",
    topic="orders/create",
    delivery_key="delivery-1",
    body=b'{"id": 5}',
    received_at=NOW,
    headers={"x-a": "1"},
    occurred_at=NOW - timedelta(minutes=1),
    request_id="request-1",
    origin="backfill",
    replay_of=41,
    key="gid://shopify/Order/5",
)
WORK = NewWork(
    shop_id=7,
    topic="inventory_push",
    key="item:location",
    payload={"quantity": 3},
    event_id=99,
    origin="console",
    request_id="request-2",
    not_before=NOW + timedelta(minutes=5),
)


def read(tx: Connection, table: str) -> dict[str, Any]:
    """Return the table's only row, by column name."""
    return dict(tx.execute(text(f"select * from {table}")).mappings().one())  # noqa: S608


def record_event(engine: Engine) -> tuple[int, int]:
    with transaction(engine) as tx:
        (accepted,) = record_events(tx, [EVENT])
    return accepted.event_id, accepted.work[0].id


def record_push(engine: Engine) -> int:
    with transaction(engine) as tx:
        record_work(tx, [WORK], NOW)
        return int(read(tx, "work_queue")["id"])


def ingest_item(event_id: int, work_id: int) -> WorkItem:
    """Return the work item expected for ``EVENT``."""
    return WorkItem(
        id=work_id,
        shop_id=7,
        topic="order_ingest",
        key=EVENT.key,
        payload={},
        retry_count=0,
        request_id="request-1",
        event_id=event_id,
        event_topic="orders/create",
        event_provider="shopify",
        body=EVENT.body,
        received_at=NOW,
        origin="backfill",
        occurred_at=EVENT.occurred_at,
        ready_at=NOW,
    )


def test_event_is_stored_and_listed_by_name(engine: Engine) -> None:
    event_id, work_id = record_event(engine)

    with transaction(engine) as tx:
        stored = read(tx, "inbound_events")
        (line,) = list_events(tx, EventFilter(ids=(event_id,)), limit=1)
        _, headers, body, work = get_event(tx, event_id)

    given = {**asdict(EVENT), "duplicate_count": 0}
    given.pop("key"), given.pop("readable")
    assert stored == given | {"id": event_id}
    assert (headers, body, [one.id for one in work]) == (EVENT.headers, EVENT.body, [work_id])
    listed = line._asdict()
    assert (listed.pop("work"), listed.pop("body_bytes")) == ({"pending": 1}, 9)
    assert listed == {name: value for name, value in stored.items() if name not in ("headers", "body")}


def test_claimed_item_has_the_fields_of_its_row_and_event(engine: Engine) -> None:
    wanted = ingest_item(*record_event(engine))

    with transaction(engine) as tx:
        assert claim_transactional(tx, OWN, LATER).items == [wanted]
        assert lock_item(tx, wanted.id, None) == wanted
    with transaction(engine) as tx:
        assert claim_leased(tx, OWN, LATER, "token").items == [wanted]
        assert find_leased(tx, wanted.id, "token") == wanted


def test_work_is_stored_claimed_and_settled_by_name(engine: Engine) -> None:
    work_id = record_push(engine)
    wanted = WorkItem(
        work_id, 7, "inventory_push", WORK.key, {"quantity": 3}, 0, "request-2", 99, origin="console"
    )._replace(ready_at=WORK.not_before)

    with transaction(engine) as tx:
        planned = get_work(tx, work_id)._asdict()
        assert planned == read(tx, "work_queue")
        assert lease_items(tx, PUSH, [work_id], "token", NOW) == {work_id}
        leased = read(tx, "work_queue")
        item = find_leased(tx, work_id, "token")
        assert item == wanted
        outcome = RetryLater("shopify.throttled", "wait", wait=timedelta(days=2))
        settlement = plan_settlement(PUSH, wanted, outcome, LATER, Random(1))
        assert settle_batch(tx, [settlement], LATER, "token") == {work_id}
        settled = read(tx, "work_queue")
        (example,) = find_requeueable(tx, WorkFilter()).examples

    given = {**asdict(WORK), "queue": "inventory", "created_at": NOW, "status": "pending", "retry_count": 0}
    given["next_retry_at"] = given.pop("not_before")
    assert {name: planned[name] for name in given} == given
    lease = {"locked_at": NOW, "locked_by": "token", "lease_until": NOW + PUSH.lease}
    assert leased == planned | lease
    tried = {"status": "error", "error_code": "shopify.throttled", "last_error": "wait", "retry_count": 1}
    assert settled == planned | tried | {"next_retry_at": LATER + timedelta(days=2)}
    assert example == {name: settled[name] for name in example}


def test_pause_and_drain_by_name(engine: Engine) -> None:
    scope = PauseScope(queue="webhooks", topic="order_ingest", shop_id=7)

    with transaction(engine) as tx:
        made = record_pause(tx, scope, "refuse", now=NOW, by="ana", reason="counting", ends_at=LATER)
        stored = read(tx, "pauses")
        assert list_pauses(tx) == [made]
        assert find_active_pauses(tx, OWN, NOW).held_shops == {7}
        clear_pauses(tx, [scope], 4.0, now=NOW, by="ben")
        draining = find_active_pauses(tx, OWN, NOW + timedelta(seconds=2))
        drained = read(tx, "pauses")

    shown = {"mode": "refuse", "created_by": "ana", "reason": "counting", "created_at": NOW, "ends_at": LATER}
    assert {name: stored[name] for name in shown} == shown
    assert {name: getattr(made, name) for name in shown} == shown
    assert {name: stored[name] for name in scope.columns} == scope.columns
    assert (drained["mode"], drained["rate_per_second"], drained["drained_at"]) == ("drain", 4.0, NOW)
    assert (draining.cap(100), draining.held_shops) == (8, set())


def test_rate_limit_by_name(engine: Engine) -> None:
    with transaction(engine) as tx:
        record_throttle(
            tx, 7, "shopify", maximum=100, available=25, restore_per_second=2, now=NOW, call_points=10
        )
        stored = read(tx, "rate_limits")
        waits = reserve_calls(tx, 7, "shopify", 4, NOW + timedelta(seconds=5), cost_points=99)

    assert (stored["maximum"], stored["available"], stored["restore_per_second"]) == (100, 25, 2)
    assert (stored["call_points"], stored["updated_at"]) == (10, NOW)
    assert (stored["owner_id"], stored["bucket"]) == (7, "shopify")
    assert waits == [timedelta(seconds=5)], "35 points after 5 s allow three calls of 10"


def test_stats_heartbeat_cursor_and_refusals_by_name(engine: Engine) -> None:
    add_shops(engine, NOW, harbour="UTC")
    failed = plan_settlement(OWN, ingest_item(1, 2), RetryLater("x", "y"), NOW, Random(1))
    counts = BatchResult(done=5, retried=[failed] * 3, dead=[failed])
    refused = WebhookRefusals(
        "harbour", "shopify", "invalid_signature", NOW - timedelta(days=1), NOW, "detail"
    )

    with transaction(engine) as tx:
        record_stats(tx, OWN, "worker-1", counts, NOW, [1, 2, 3])
        assert read(tx, "work_stats where minute > '1970-01-01Z'") == {
            "minute": NOW, "topic": "order_ingest", "worker": "worker-1", "done": 5, "retried": 3, "dead": 1,
            "last_at": NOW, "timings": [],
        }  # fmt: skip
        record_heartbeat(tx, "beat", NOW, {"lead": 1})
        assert read(tx, "heartbeats") == {"name": "beat", "at": NOW, "detail": {"lead": 1}}
        upsert_cursor(tx, 7, "stripe", "events", NOW, LATER)
        assert list(read(tx, "sync_cursors").values()) == [7, "stripe", "events", NOW, LATER]
        shop_id = read(tx, "shops")["id"]
        record_refusals(tx, [(shop_id, refused)])
        assert read(tx, "webhook_refusals")["shop_id"] == shop_id
        assert find_first_refusal(tx, shop_id) == refused.first_at
        assert delete_old_refusals(tx, shop_id, NOW + timedelta(days=1)) == [
            ("invalid_signature", refused.first_at)
        ]


def test_backlog_and_figures_count_each_state_under_its_own_name(engine: Engine) -> None:
    states = {"error": 4, "dead": 3, "done": 2, "discarded": 1}
    with transaction(engine) as tx:
        for status, count in states.items():
            record_work(tx, [NewWork(shop_id=7, topic="order_ingest")] * count, NOW)
            tx.execute(text("update work_queue set status = :new where status = 'pending'"), {"new": status})
        record_work(tx, [NewWork(shop_id=7, topic="order_ingest", not_before=LATER)] * 6, NOW)
        record_work(tx, [NewWork(shop_id=7, topic="order_ingest")] * 12, NOW)
        ids = list(tx.scalars(text("select id from work_queue order by id desc limit 7")))
        lease_items(tx, OWN, ids, "token", NOW)
        at = NOW + timedelta(minutes=1)
        record_stats(tx, OWN, "w", BatchResult(done=10), NOW)
        backlog = {row.topic: row for row in read_backlog(tx, at)}
        figures = {row.topic: row for row in list_topic_figures(tx, at)}

    assert backlog["order_ingest"]._asdict() == {
        "queue": "webhooks", "topic": "order_ingest", "waiting": 11, "due": 9, "locked": 7, "error": 4,
        "dead": 3, "oldest_waiting_seconds": 60.0,
    }  # fmt: skip
    found = figures["order_ingest"]
    assert (found.queue, found.waiting, found.error, found.dead, found.locked) == ("webhooks", 11, 4, 3, 7)
    assert (found.leased_until, found.due_since, found.last_processed_at) == (NOW + OWN.lease, NOW, NOW)
    assert found.done_per_minute == 2.0
