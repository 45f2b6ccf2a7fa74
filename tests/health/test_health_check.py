"""The health check answers within its deadline while a check hangs until the test releases it."""

import threading
from collections.abc import Callable

from sqlalchemy import Engine, create_engine, text

from services.core.clock import utc_now
from services.jobs.conditions import count_conditions
from services.ledger.health import classify_health, describe_health, list_components_down
from services.ledger.health_check import CachedCheck, HealthCheck, result_within
from tests.fleet.waiting import run_within
from tests.health.fleet_rows import add_heartbeats


def open_probe(
    engine: Engine,
    *,
    ping: Callable[[float], float | None] = lambda _seconds: 0.2,
    deadline_seconds: float = 0.3,
    keep_seconds: float = 1.0,
) -> HealthCheck:
    return HealthCheck(
        count_conditions,
        engine=lambda: engine,
        ping=ping,
        deadline_seconds=deadline_seconds,
        keep_seconds=keep_seconds,
    )


def test_a_whole_fleet_is_read_in_one_go(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())

    health = open_probe(engine, deadline_seconds=1.5).read()

    assert list_components_down(health, utc_now()) == []
    assert health.broker_latency_ms == 0.2


def test_hanging_broker_does_not_delay_the_response(engine: Engine) -> None:
    go_on = threading.Event()
    probe = open_probe(engine, ping=lambda _: float(go_on.wait()))

    health = run_within(probe.read, seconds=30)
    go_on.set()

    assert health.broker_latency_ms is None
    assert health.database_latency_ms is not None


def test_a_database_that_hangs_is_missing_and_back_when_it_answers(engine: Engine) -> None:
    probe = open_probe(engine, keep_seconds=0.0)

    with engine.connect() as blocker:
        blocker.execute(text("lock table heartbeats, inbound_events in access exclusive mode"))
        hanging, ready_while_hanging = probe.read(), probe.is_ready()
        blocker.rollback()
    result_within(probe._heartbeats.start(), 5)

    assert list_components_down(hanging, utc_now()) == ["database"]
    assert not ready_while_hanging
    assert probe.read().database_latency_ms is not None
    assert probe.is_ready()


def test_hanging_check_runs_once_for_all_callers() -> None:
    go_on = threading.Event()
    calls = []

    def read_slowly() -> float:
        calls.append(1)
        go_on.wait()
        return 1.0

    question = CachedCheck("hangs", read_slowly)
    answers = [result_within(question.start(), 0.01) for _ in range(20)]
    go_on.set()

    assert answers == [None] * 20
    assert result_within(question.start(), 5) == 1.0
    assert len(calls) == 1


def test_failed_check_returns_none_and_runs_again() -> None:
    answers = iter([ConnectionError("away"), 2.0])

    def read_slowly() -> float:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    question = CachedCheck("fails", read_slowly)

    assert result_within(question.start(), 5) is None
    assert result_within(question.start(), 5) == 2.0


def test_a_database_without_tables_is_not_ready(engine: Engine, owner_engine: Engine) -> None:
    probe = open_probe(engine)
    with owner_engine.begin() as connection:
        connection.execute(text("alter table inbound_events rename to elsewhere"))
    try:
        assert not probe.is_ready()
    finally:
        with owner_engine.begin() as connection:
            connection.execute(text("alter table elsewhere rename to inbound_events"))


def test_a_read_only_database_is_missing_because_no_webhook_can_be_recorded(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
    option = {"options": "-c default_transaction_read_only=on"}
    read_only = create_engine(engine.url, connect_args=option)
    try:
        probe = open_probe(read_only, deadline_seconds=1.5)
        health, is_ready = probe.read(), probe.is_ready()
    finally:
        read_only.dispose()

    assert classify_health(health, utc_now()) == ("unavailable", True, ["database"])
    assert not is_ready


def test_slow_backlog_count_is_not_a_missing_database(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
    probe = open_probe(engine)

    with engine.connect() as blocker:
        blocker.execute(text("lock table work_queue in access exclusive mode"))
        health = probe.read()
        blocker.rollback()

    assert health.queues == []
    assert list_components_down(health, utc_now()) == []


def test_conditions_that_cannot_be_counted_are_missing_and_queues_still_run(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
    probe = open_probe(engine)

    with engine.connect() as blocker:
        blocker.execute(text("lock table incidents in access exclusive mode"))
        health = probe.read()
        blocker.rollback()

    assert classify_health(health, utc_now()) == ("degraded", False, ["conditions"])
    assert describe_health(health, utc_now())["p1_open"] is None


def test_slow_result_is_cached_longer() -> None:
    go_on = threading.Event()
    calls = []

    def read_slowly() -> int:
        calls.append(go_on.wait(0.05))
        return len(calls)

    question = CachedCheck("slow", read_slowly, keep_seconds=0.001, keep_times_cost=10)
    first = result_within(question.start(), 5)
    go_on.wait(0.1)  # longer than keep_seconds, shorter than ten times the cost

    assert (first, result_within(question.start(), 5)) == (1, 1)
