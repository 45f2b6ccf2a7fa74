"""External effects with the real runner: leases, fencing, one at a time per key, tokens."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

from sqlalchemy import Connection, Engine, text

from services.audit.chain import AuditEntry, Mutation
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import RetryLater
from services.ledger.rate_limits import record_throttle
from services.ledger.runner_external import ExternalRunner
from services.ledger.sweep import free_expired, sweep
from services.ledger.topics import TOPICS
from services.ledger.work import Done, FollowUp, NewWork, Outcome, PreparedCall, WorkItem
from services.providers.call_outcomes import noted_call
from services.shops.secrets import record_secret
from tests.jobs.job_rows import add_shops
from tests.ledger_rows import plan, rows_of, statuses

TOPIC = TOPICS["inventory_push"]


class Calls:
    """An effect that calls a function."""

    def __init__(self, act: Callable[[WorkItem], Outcome]) -> None:
        self.act = act
        self.acted: list[int] = []

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> list[PreparedCall | Outcome]:
        return [
            PreparedCall(item=item, act=lambda item=item: self._act(item), payload={"asked": 1})
            for item in items
        ]

    def _act(self, item: WorkItem) -> Outcome:
        self.acted.append(item.id)
        return self.act(item)


def runner(engine: Engine, name: str = "tester") -> ExternalRunner:
    return ExternalRunner(engine, name, Random(1))


def test_the_call_is_made_with_the_lease_held_and_no_transaction_open(engine: Engine) -> None:
    plan(engine, "inventory_push", 1)
    seen: list[tuple[object, ...]] = []

    def act(item: WorkItem) -> Outcome:
        with transaction(engine) as tx:
            (row,) = rows_of(tx)
            idle = tx.scalar(
                text(
                    "select count(*) from pg_stat_activity where state like 'idle in transaction%'"
                    " and datname = current_database()"
                )
            )
        seen.append((row["locked_by"], row["payload"], idle))
        return Done("pushed")

    report = runner(engine).run_batch(TOPIC, Calls(act))

    assert report.done == 1
    ((locked_by, payload, idle),) = seen
    assert str(locked_by).startswith("tester:")
    assert (payload, idle) == ({"asked": 1}, 0)
    with transaction(engine) as tx:
        (row,) = rows_of(tx)
    assert (row["status"], row["result"], row["locked_at"]) == ("done", "pushed", None)


def test_result_of_the_call_is_written_when_the_item_settles(engine: Engine) -> None:
    plan(engine, "inventory_push", 1)

    def record(tx: Connection) -> FollowUp:
        tx.execute(text("insert into variants values (1, 7, 1, 's', 't', now())"))
        entry = AuditEntry(1, "worker", "inventory_push", "r", [Mutation("variants", "7", "learned")], 1)
        return FollowUp([NewWork(shop_id=1, topic="inventory_push", key="next")], [entry])

    report = runner(engine).run_batch(TOPIC, Calls(lambda item: Done("pushed", record)))

    assert [ref.topic for ref in report.refs] == ["inventory_push"]
    with transaction(engine) as tx:
        assert tx.scalar(text("select count(*) from variants")) == 1
        assert tx.scalar(text("select summary from audit_mutations")) == "learned"


def test_an_accepted_call_is_a_use_of_the_current_secret_of_its_provider(engine: Engine) -> None:
    plan(engine, "inventory_push", 1)
    add_shops(engine, utc_now(), harbour="UTC")
    with transaction(engine) as tx:
        record_secret(tx, 1, "shopify-token", "shpat_" + "a" * 32, utc_now())
        record_secret(tx, 1, "shopify-webhook", "a-secret", utc_now())

    def act(item: WorkItem) -> Outcome:
        with noted_call("shopify", "document"):
            return Done("pushed")

    runner(engine).run_batch(TOPIC, Calls(act))

    with transaction(engine) as tx:
        used = tx.scalars(text("select name from shop_secrets where last_used_at is not null")).all()
    assert used == ["shopify-token"]


def test_worker_without_the_lease_writes_nothing(engine: Engine) -> None:
    plan(engine, "inventory_push", 1)
    recorded: list[str] = []

    def act(item: WorkItem) -> Outcome:
        with transaction(engine) as tx:
            tx.execute(text("update work_queue set lease_until = now() - interval '1 s'"))
            assert free_expired(tx, utc_now()) == 1
        with transaction(engine) as tx:
            tx.execute(text("update work_queue set locked_at = now(), locked_by = 'other'"))
        return Done("pushed", record)

    def record(tx: Connection) -> FollowUp:
        recorded.append("written")
        return FollowUp()

    report = runner(engine).run_batch(TOPIC, Calls(act))

    assert (report.done, report.lost) == (0, 1)
    assert recorded == []
    with transaction(engine) as tx:
        (row,) = rows_of(tx)
    assert (row["status"], row["locked_by"], row["error_code"]) == ("error", "other", "worker_lost")


def test_work_on_one_key_runs_one_at_a_time(engine: Engine) -> None:
    ids = plan(engine, "inventory_push", 3, keys=["a", "a", "b"])
    first, second = Calls(lambda item: Done()), Calls(lambda item: Done())

    meanwhile: list[int] = []

    def act(item: WorkItem) -> Outcome:
        if item.key == "a":
            runner(engine, "other").run_batch(TOPIC, second)
            meanwhile.extend(second.acted)
        return Done()

    first.act = act
    assert runner(engine).run_batch(TOPIC, first).claimed == 2
    assert sorted(first.acted) == [ids[0], ids[2]]
    assert meanwhile == []
    assert runner(engine).run_batch(TOPIC, second).claimed == 1
    assert statuses(engine) == {"done": 3}


def test_shop_has_no_more_leased_items_than_its_cap(engine: Engine) -> None:
    plan(engine, "inventory_push", TOPIC.shop_cap + 10)
    calls = Calls(lambda item: Done())
    assert runner(engine).run_batch(TOPIC, calls).claimed == TOPIC.shop_cap


def test_without_a_token_an_item_waits_and_no_try_is_counted(engine: Engine) -> None:
    plan(engine, "inventory_push", 5)
    now = utc_now()
    with transaction(engine) as tx:
        record_throttle(tx, 1, "shopify", maximum=1000, available=20, restore_per_second=1, now=now)
    calls = Calls(lambda item: Done())

    runner(engine).run_batch(replace(TOPIC, call_items=1), calls)

    assert len(calls.acted) == 2
    with transaction(engine) as tx:
        waiting = [row for row in rows_of(tx) if row["status"] == "pending"]
    assert len(waiting) == 3
    assert all(row["retry_count"] == 0 and row["locked_at"] is None for row in waiting)
    assert all(row["next_retry_at"] > now for row in waiting)  # type: ignore[operator]


def test_retry_after_of_the_provider_is_respected(engine: Engine) -> None:
    plan(engine, "inventory_push", 1)
    now = utc_now()
    throttled = RetryLater("shopify.throttled", wait=timedelta(minutes=7))

    runner(engine).run_batch(TOPIC, Calls(lambda item: throttled))

    with transaction(engine) as tx:
        (row,) = rows_of(tx)
    assert row["next_retry_at"] >= now + timedelta(minutes=7)  # type: ignore[operator]


def test_an_exception_in_one_call_is_that_items_alone(engine: Engine) -> None:
    ids = plan(engine, "inventory_push", 4)

    def act(item: WorkItem) -> Outcome:
        if item.id == ids[1]:
            raise ValueError("boom")
        return Done()

    report = runner(engine).run_batch(TOPIC, Calls(act))
    assert (report.done, len(report.retried)) == (3, 1)


def test_sweep_frees_expired_leases_and_no_live_lease(engine: Engine) -> None:
    plan(engine, "inventory_push", 2)
    now = utc_now()
    with transaction(engine) as tx:
        tx.execute(
            text("update work_queue set locked_at = now(), locked_by = 'x', lease_until = :t"), {"t": now}
        )
        tx.execute(
            text("update work_queue set lease_until = :t where key = 'key-1-1'"),
            {"t": now + timedelta(seconds=20)},
        )
    with transaction(engine) as tx:
        report, refs = sweep(tx, now + timedelta(seconds=1), {})

    assert (report.freed, len(refs)) == (1, 1)
    with transaction(engine) as tx:
        freed, live = rows_of(tx)
    assert (freed["status"], freed["error_code"], freed["locked_at"]) == ("error", "worker_lost", None)
    assert live["locked_by"] == "x"
