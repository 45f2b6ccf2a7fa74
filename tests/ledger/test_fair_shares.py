"""Fairness: shops in turn, the rate of a resumed backlog, the size of a bucket."""

import threading
from datetime import timedelta

from sqlalchemy import Connection, Engine

from services.core.db import transaction
from services.ledger.claim import ActivePauses, claim_transactional, find_ready_shops
from services.ledger.pause import PauseScope, clear_pauses, record_pause
from services.ledger.rate_limits import record_throttle, reserve_calls
from services.ledger.sweep import list_undispatched
from services.ledger.topics import TOPICS
from tests.fleet.waiting import wait_for
from tests.ledger_rows import NOW, plan

TOPIC = TOPICS["order_ingest"]
LATER = NOW + timedelta(hours=1)


def test_shops_take_turns_from_the_one_after_the_last(engine: Engine) -> None:
    for shop_id in (1, 2, 3):
        plan(engine, TOPIC.name, 1, shop_id=shop_id)

    with transaction(engine) as tx:
        turns = [find_ready_shops(tx, TOPIC, LATER, ActivePauses(), after, 2) for after in (0, 1, 2, 3)]

    assert turns == [[1, 2], [2, 3], [3, 1], [1, 2]]


def test_workers_that_drain_a_resumed_backlog_at_once_share_its_rate(engine: Engine) -> None:
    scope = PauseScope(topic=TOPIC.name)
    with transaction(engine) as tx:
        record_pause(tx, scope, "hold", now=NOW, by="ada")
    plan(engine, TOPIC.name, 30)
    with transaction(engine) as tx:
        clear_pauses(tx, [scope], 1.0, now=NOW, by="ada")
    now = NOW + timedelta(seconds=10)
    counts: list[int] = []

    def claim() -> None:
        with transaction(engine) as tx:
            counts.append(len(claim_transactional(tx, TOPIC, now).items))

    other = threading.Thread(target=claim)
    with transaction(engine) as tx:
        counts.append(len(claim_transactional(tx, TOPIC, now).items))
        other.start()
        wait_for(lambda: not other.is_alive() or is_waiting(engine))
    other.join(60)

    assert sorted(counts) == [0, 2], "ten seconds at one per second, less two and a half kept by a drain"


def is_waiting(engine: Engine) -> bool:
    """Return whether a transaction waits for a lock."""
    with transaction(engine) as tx:
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        return bool(tx.exec_driver_sql(waiting).scalar_one())


def test_idle_bucket_refills_only_to_its_maximum(tx: Connection) -> None:
    record_throttle(tx, 1, "shopify", maximum=100, available=100, restore_per_second=50, now=NOW)

    waits = reserve_calls(tx, 1, "shopify", 15, LATER, cost_points=10)

    assert waits == [timedelta(seconds=0.2 * place) for place in range(1, 6)]


def test_message_counts_as_lost_after_ten_seconds(engine: Engine) -> None:
    (work_id,) = plan(engine, TOPIC.name, 1)
    with transaction(engine) as tx:
        tx.exec_driver_sql("update work_queue set dispatched_at = %(at)s", {"at": LATER})

    with transaction(engine) as tx:
        found = [list_undispatched(tx, TOPIC, LATER + timedelta(seconds=s)) for s in (9, 11)]

    assert found == [[], [work_id]]
