"""Workflows with the real runners: each step is settled by itself, and a retry goes on at the failed step."""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, Engine, text

from services.cli.work import command
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.ledger import steps
from services.ledger.filters import WorkFilter
from services.ledger.queries import get_work
from services.ledger.requeue import requeue
from services.ledger.runner_external import ExternalRunner
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.settle import BatchResult
from services.ledger.steps import Workflow, list_steps, log_steps, make_workflows, plan_second_step
from services.ledger.topics import TOPICS
from services.ledger.work import Call, Done, HandlerResult, Outcome, PreparedCall, WorkItem
from tests.ledger_rows import accept, new_event, rows_of

FIRST, SECOND, THIRD = "order_ingest", "inventory_push", "product_ingest"
TRIAL = Workflow("trial", (FIRST, SECOND, THIRD))


@pytest.fixture(autouse=True)
def _workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "WORKFLOWS", make_workflows(TRIAL))
    monkeypatch.setattr(steps, "FIRST_STEPS", {FIRST})


def receive(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    return HandlerResult(
        [Done()] * len(items), [plan_second_step(TRIAL, item, "page-1", item.key) for item in items]
    )


class Answer:
    """An external handler whose calls return ``outcome``; with ``is_call`` off it needs no call."""

    def __init__(self, outcome: Outcome, *, is_call: bool = True) -> None:
        self.outcome, self.is_call = outcome, is_call

    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        return [
            PreparedCall(item=item, act=lambda: self.outcome) if self.is_call else self.outcome
            for item in items
        ]


def run_first(engine: Engine) -> BatchResult:
    return TransactionalRunner(engine, "tester", Random(1)).run_batch(TOPICS[FIRST], receive)


def run_second(engine: Engine, outcome: Outcome, **options: bool) -> BatchResult:
    return ExternalRunner(engine, "tester", Random(1)).run_batch(TOPICS[SECOND], Answer(outcome, **options))


def run_third(engine: Engine) -> BatchResult:
    def write(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
        return HandlerResult([Done()] * len(items))

    return TransactionalRunner(engine, "tester", Random(1)).run_batch(TOPICS[THIRD], write)


def shown(engine: Engine) -> list[tuple[object, object]]:
    with transaction(engine) as tx:
        return [(row["topic"], row["status"]) for row in rows_of(tx)]


def test_each_step_plans_the_next_one_with_its_key_event_and_subject(engine: Engine) -> None:
    (accepted,) = accept(engine, new_event(1))
    first, second = run_first(engine), run_second(engine, Done())
    third = run_third(engine)

    assert [[ref.topic for ref in result.refs] for result in (first, second, third)] == [
        [SECOND],
        [THIRD],
        [],
    ]
    with transaction(engine) as tx:
        rows = rows_of(tx)
    assert [row["topic"] for row in rows] == [FIRST, SECOND, THIRD]
    assert {row["event_id"] for row in rows} == {accepted.event_id}
    assert {row["request_id"] for row in rows} == {"request-1"}
    assert [row["key"] for row in rows[1:]] == ["page-1"] * 2
    assert rows[1]["payload"] == rows[2]["payload"] == {"workflow": "trial", "subject": rows[0]["key"]}


def test_a_step_exists_only_once_the_step_before_is_done(engine: Engine) -> None:
    accept(engine, new_event(1))
    run_first(engine)

    run_second(engine, RetryLater("notion.unavailable"))
    assert shown(engine) == [(FIRST, "done"), (SECOND, "error")]

    with transaction(engine) as tx:
        tx.execute(text("update work_queue set next_retry_at = null"))
    run_second(engine, Misconfigured("notion.token_refused"))
    assert shown(engine) == [(FIRST, "done"), (SECOND, "dead")]


def test_a_dead_step_that_is_requeued_goes_on_from_that_step(engine: Engine) -> None:
    accept(engine, new_event(1))
    run_first(engine)
    run_second(engine, Misconfigured("notion.token_refused"))

    with transaction(engine) as tx:
        requeue(tx, WorkFilter(topic=SECOND), by="ada", now=utc_now(), request_id="")
    run_second(engine, Done())
    run_third(engine)

    assert shown(engine) == [(FIRST, "done"), (SECOND, "done"), (THIRD, "done")]


def test_a_step_without_a_call_is_skipped_and_the_next_one_follows(engine: Engine) -> None:
    accept(engine, new_event(1))
    run_first(engine)
    run_second(engine, Done("skipped"), is_call=False)

    with transaction(engine) as tx:
        lines = list_steps(tx, get_work(tx, int(str(rows_of(tx)[0]["id"]))))
    assert [(line.step, line.status) for line in lines] == [
        (FIRST, "done"),
        (SECOND, "skipped"),
        (THIRD, "pending"),
    ]


def test_steps_of_one_key_run_one_at_a_time(engine: Engine) -> None:
    accept(engine, new_event(1), new_event(2))
    run_first(engine)

    result = run_second(engine, Done())
    assert (result.claimed, result.more) == (1, True)


def test_a_lost_lease_plans_no_next_step(engine: Engine) -> None:
    accept(engine, new_event(1))
    run_first(engine)

    class LosesItsLease(Answer):
        def prepare(
            self, tx: Connection, items: Sequence[WorkItem], now: datetime
        ) -> Sequence[Call | Outcome]:
            def act() -> Outcome:
                with transaction(engine) as other:
                    other.execute(text("update work_queue set locked_by = 'another' where locked_by > ''"))
                return Done()

            return [PreparedCall(item=item, act=act) for item in items]

    runner = ExternalRunner(engine, "tester", Random(1))
    assert runner.run_batch(TOPICS[SECOND], LosesItsLease(Done())).lost == 1
    assert [topic for topic, _ in shown(engine)] == [FIRST, SECOND]


def test_a_step_that_its_workflow_no_longer_has_is_dead_with_a_name(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(engine, new_event(1))
    run_first(engine)
    run_second(engine, Done())
    monkeypatch.setattr(steps, "WORKFLOWS", make_workflows(Workflow("trial", (FIRST, SECOND))))

    (dead,) = run_third(engine).dead
    assert dead.error_code == "workflow.step_unknown"
    assert "fleet events replay" in str(dead.last_error)


def test_work_show_lists_the_steps_with_their_times_and_errors(engine: Engine) -> None:
    accept(engine, new_event(1))
    run_first(engine)
    run_second(engine, Misconfigured("notion.token_refused", "Notion refused the token"))
    with transaction(engine) as tx:
        number = rows_of(tx)[1]["id"]

    document = json.loads(CliRunner().invoke(command, ["show", str(number), "--json"]).stdout)
    first, second = document["steps"]
    assert (first["step"], first["status"], first["error"]) == (FIRST, "done", "")
    assert (second["status"], second["error"]) == (
        "dead",
        "notion.token_refused: Notion refused the token",
    )
    assert first["ended_at"] == second["started_at"] <= second["ended_at"]
    text_shown = CliRunner().invoke(command, ["show", str(number)]).stdout
    assert "Steps of its workflow" in text_shown
    assert "notion.token_refused" in text_shown


def test_steps_are_found_by_an_index(engine: Engine) -> None:
    (accepted,) = accept(engine, new_event(1))
    with transaction(engine) as tx:
        tx.execute(text("set local enable_seqscan = off"))
        plan = tx.execute(
            text("explain select * from work_queue where event_id = :id order by id"),
            {"id": accepted.event_id},
        ).scalars()
        assert "ix_work_queue_event_id" in " ".join(plan)


def test_each_try_of_a_step_is_logged_with_workflow_step_and_status(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    accept(engine, new_event(1), new_event(2, topic="orders/cancelled"))
    ends = [*run_first(engine).step_ends]
    ends += run_second(engine, RetryLater("notion.unavailable", wait=timedelta())).step_ends
    with transaction(engine) as tx:
        tx.execute(text("update work_queue set next_retry_at = null where status = 'error'"))
    ends += run_second(engine, Done("skipped"), is_call=False).step_ends
    ends += run_second(engine, Misconfigured("notion.token_refused")).step_ends

    with caplog.at_level(logging.INFO, logger="services.ledger.steps"):
        log_steps(ends)
    fields: list[Mapping[str, Any]] = [vars(record)["fields"] for record in caplog.records]
    assert {record.message for record in caplog.records} == {"workflow.step"}
    assert [(one["workflow"], one["step"], one["status"], one["error_code"]) for one in fields] == [
        ("trial", FIRST, "done", ""),
        ("trial", FIRST, "done", ""),
        ("trial", SECOND, "retry", "notion.unavailable"),
        ("trial", SECOND, "skipped", ""),
        ("trial", SECOND, "dead", "notion.token_refused"),
    ]
    assert all(one["seconds"] >= 0 for one in fields)


def test_work_outside_a_workflow_has_no_steps_and_no_log_line(engine: Engine) -> None:
    accept(engine, new_event(1))
    result = TransactionalRunner(engine, "tester", Random(1)).run_batch(
        TOPICS[FIRST], lambda tx, items, now: HandlerResult([Done()])
    )
    with transaction(engine) as tx:
        assert list_steps(tx, get_work(tx, int(str(rows_of(tx)[0]["id"])))) == []
    assert result.step_ends == []
