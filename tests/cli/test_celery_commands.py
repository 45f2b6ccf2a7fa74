"""Operator commands of ``celery -A tasks``, with a real ledger."""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import click
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result
from sqlalchemy import Engine, text, update

from services.core.db import transaction
from services.core.settings import Settings, get_settings
from services.ledger.filters import FilterInvalid
from services.ledger.pause import parse_rate
from services.ledger.tables import work_queue
from services.shops.shops import add_shop
from tasks.commands import backlog, discard, pause, requeue, resume, unlock
from tests.cli.commands import Typed
from tests.ledger_rows import NOW, plan, statuses


def run(command: click.Command, *arguments: str, answer: str | BytesIO | None = None) -> Result:
    """Run a command as ``celery -A tasks`` would."""
    context = CLIContext(app=Celery(set_as_current=False), no_color=True, workdir=None)
    return CliRunner().invoke(command, arguments, obj=context, input=answer)


def dead(engine: Engine, count: int, *, shop_id: int = 1) -> list[int]:
    """Three dead work items."""
    ids = plan(engine, "inventory_push", count, shop_id=shop_id)
    with transaction(engine) as tx:
        tx.execute(update(work_queue).where(work_queue.c.id.in_(ids)).values(status="dead", retry_count=3))
    return ids


def audit_summaries(engine: Engine) -> list[tuple[Any, ...]]:
    with transaction(engine) as tx:
        rows = tx.execute(
            text(
                "select e.action, e.staff_label, m.after->>'reason' from audit_events e "
                "join audit_mutations m on m.event_id = e.id where e.action <> 'shop.add' order by e.id"
            )
        )
        return [tuple(row) for row in rows]


@pytest.fixture
def harbour(engine: Engine) -> int:
    with transaction(engine) as tx:
        return add_shop(tx, slug="harbour", name="H", timezone="UTC", currency="CAD", now=NOW).id


def test_requeue_asks_and_acts_on_yes(engine: Engine, broker_url: str) -> None:
    dead(engine, 2)

    result = run(requeue, "--as", "ada", "--reason", "mended", answer=Typed("y\n"))

    assert result.exit_code == 0, result.output
    assert "requeue 2 items?" in result.output
    assert "2 items requeued." in result.output
    assert statuses(engine) == {"pending": 2}
    assert audit_summaries(engine) == [("work.requeue", "ada", "mended")]


@pytest.mark.parametrize("answer", ["n\n", ""])
@pytest.mark.parametrize("command", [requeue, discard])
def test_nothing_changes_without_confirmation(engine: Engine, command: click.Command, answer: str) -> None:
    dead(engine, 1)
    reason = ("--reason", "x")

    result = run(command, *reason, answer=Typed(answer))

    assert result.exit_code == 1
    assert "nothing was changed" in result.output
    assert statuses(engine) == {"dead": 1}


def test_dry_run_counts_and_changes_nothing(engine: Engine) -> None:
    ids = dead(engine, 12)

    result = run(requeue, "--dry-run", "--json")

    answer = json.loads(result.output)
    assert (answer["count"], answer["changed"]) == (12, 0)
    assert [row["id"] for row in answer["examples"]] == ids[:10]
    assert statuses(engine) == {"dead": 12}
    assert audit_summaries(engine) == []


def test_shop_is_named_by_its_slug(engine: Engine, broker_url: str, harbour: int) -> None:
    dead(engine, 1, shop_id=harbour)
    dead(engine, 1, shop_id=harbour + 1)

    result = run(requeue, "--shop", "harbour", "-f", "--json")

    assert json.loads(result.output)["changed"] == 1
    assert statuses(engine) == {"pending": 1, "dead": 1}


def test_row_that_is_named_and_cannot_move_is_explained(engine: Engine) -> None:
    (row_id,) = plan(engine, "inventory_push", 1)

    result = run(requeue, "--id", str(row_id), "-f")

    assert result.exit_code == 0
    assert f"{row_id} is pending" in result.output


def test_requeue_works_while_the_broker_is_away(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.ledger.dispatch import reset_sender

    dead(engine, 1)
    monkeypatch.setenv("BROKER_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    reset_sender()
    try:
        result = run(requeue, "-f")
        counted = run(backlog)
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
        reset_sender()

    assert result.exit_code == 0, result.output
    assert " is not reachable: the sweep sends them later." in result.output
    assert (counted.exit_code, "inventory_push" in counted.stdout) == (1, True)
    assert "Error: the broker at 127.0.0.1:1/0 is not reachable: " in counted.stderr
    assert statuses(engine) == {"pending": 1}


def test_discard_needs_a_reason_and_keeps_it(engine: Engine) -> None:
    dead(engine, 1)

    refused = run(discard, "-f")
    assert refused.exit_code == 2
    assert "--reason" in refused.output

    assert run(discard, "-f", "--reason", "shop closed", "--as", "ada").exit_code == 0
    assert statuses(engine) == {"discarded": 1}
    assert audit_summaries(engine) == [("work.discard", "ada", "shop closed")]


def test_unlock_frees_only_locks_older_than_given(engine: Engine, broker_url: str) -> None:
    old, young = plan(engine, "inventory_push", 2)
    with transaction(engine) as tx:
        for row_id, age in ((old, "40 minutes"), (young, "20 minutes")):
            tx.execute(
                text("update work_queue set locked_at = now() - cast(:age as interval) where id = :id"),
                {"age": age, "id": row_id},
            )

    result = run(unlock, "--older-than", "30m", "-f", "--json")

    assert json.loads(result.output)["changed"] == 1
    with transaction(engine) as tx:
        assert tx.scalars(text("select id from work_queue where locked_at is not null")).all() == [young]


def test_paused_queue_shows_in_the_backlog_until_resumed(engine: Engine, harbour: int) -> None:
    plan(engine, "inventory_push", 3, shop_id=harbour)
    place = ("-Q", "inventory", "--shop", "harbour")

    paused = run(pause, *place, "--refuse", "--reason", "counting stock", "-f")
    assert "Paused queue inventory, shop harbour (refuse): 3 waiting." in paused.output
    shown = json.loads(run(backlog, "--json").output)["pauses"]
    assert [(row["mode"], row["reason"]) for row in shown] == [("refuse", "counting stock")]

    assert "at 30 items/min" in run(resume, *place, "--rate", "30/m", "-f").output
    assert "at once" in run(resume, *place, "-f").output
    assert json.loads(run(backlog, "--json").output)["pauses"] == []


def test_resume_without_a_filter_resumes_all_that_is_paused(engine: Engine, harbour: int) -> None:
    plan(engine, "inventory_push", 3, shop_id=harbour)
    plan(engine, "order_ingest", 2)
    for scope in ([], ["--topic", "inventory_push"], ["--shop", "harbour"]):
        run(pause, *scope, "-f")

    result = run(resume, "--rate", "50", "-f")

    assert result.exit_code == 0
    resumed = "Resumed everything; topic inventory_push; shop harbour at 50 items/s: 5 waiting."
    assert resumed in result.output
    assert {row["mode"] for row in json.loads(run(backlog, "--json").output)["pauses"]} == {"drain"}
    run(resume, "-f")
    assert json.loads(run(backlog, "--json").output)["pauses"] == []


def test_resume_of_one_pause_names_what_stays_paused(engine: Engine, harbour: int) -> None:
    for scope in (["--topic", "inventory_push"], ["--shop", "harbour"]):
        run(pause, *scope, "-f")

    result = run(resume, "--topic", "inventory_push", "-f")

    assert "Still paused: shop harbour." in result.output


_SCOPES = [
    [],
    ["-Q", "inventory"],
    ["--topic", "inventory_push"],
    ["--shop", "harbour"],
    ["-Q", "inventory", "--topic", "inventory_push"],
    ["-Q", "inventory", "--shop", "harbour"],
    ["--topic", "inventory_push", "--shop", "harbour"],
    ["-Q", "inventory", "--topic", "inventory_push", "--shop", "harbour"],
]


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
@pytest.mark.parametrize("wanted", _SCOPES)
def test_resume_that_matches_no_pause_changes_nothing_and_lists_the_pauses(
    engine: Engine, harbour: int, wanted: list[str], dry_run: list[str]
) -> None:
    assert "nothing is paused" in run(resume, *wanted, *dry_run, "-f").output
    for scope in _SCOPES:
        if scope != wanted:
            run(pause, *scope, "-f")
    listed = json.loads(run(backlog, "--json").output)["pauses"]

    result = run(resume, *wanted, *dry_run, "-f")

    assert result.exit_code == 0
    if wanted:
        assert "Nothing was changed: " in result.output
        assert "Paused: everything; " in result.output
        assert json.loads(run(backlog, "--json").output)["pauses"] == listed


def test_resume_when_nothing_is_paused_changes_nothing(engine: Engine) -> None:
    result = run(resume, "--rate", "50/s", "-f")
    assert (result.exit_code, result.output) == (0, "Nothing was changed: nothing is paused.\n")

    document = json.loads(run(resume, "-f", "--json").output)
    assert (document["changed"], document["scope"]) == (False, "")


def test_pause_for_a_while_shows_until_when_everywhere(engine: Engine, harbour: int) -> None:
    paused = json.loads(run(pause, "--shop", "harbour", "--for", "2h", "-f", "--json").output)
    (shown,) = json.loads(run(backlog, "--json").output)["pauses"]

    assert shown["ends_at"] == paused["ends_at"]
    lasts = datetime.fromisoformat(shown["ends_at"]) - datetime.fromisoformat(shown["created_at"])
    assert timedelta(hours=1, minutes=59) < lasts <= timedelta(hours=2)
    assert ", until 20" in run(pause, "--for", "1h30m", "--dry-run").output
    assert " until " in run(backlog).output


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (pause, ["--for", "soon"], "'--for': 'soon' should be a duration such as"),
        (pause, ["--for", "0"], "'--for': '0' should be longer than 0"),
        (requeue, ["-Q", "mail"], "'mail' should be one of"),
        (requeue, ["--topic", "push"], "did you mean 'inventory_push'?"),
        (requeue, ["--status", "done"], "fleet events replay"),
        (requeue, ["--since", "yesterday"], "should be a time such as"),
        (requeue, ["--shop", "nowhere"], "there is no shop 'nowhere'"),
        (unlock, ["--older-than", "soon"], "'--older-than': 'soon' should be a duration such as"),
        (pause, ["-Q", "email", "--topic", "inventory_push"], "runs on queue 'inventory'"),
        (resume, ["--rate", "fast"], "should be a number of items above 0"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_right(
    engine: Engine, command: click.Command, arguments: list[str], message: str
) -> None:
    result = run(command, *arguments, "-f")

    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(("text_", "rate"), [("20/s", 20), ("300/m", 5), ("20", 20), ("0.5/s", 0.5)])
def test_rate_is_items_a_second(text_: str, rate: float) -> None:
    assert parse_rate(text_) == rate


@pytest.mark.parametrize("text_", ["", "0/s", "-1/s", "1/h", "nan", "1e9/s"])
def test_rate_that_makes_no_sense_is_refused(text_: str) -> None:
    with pytest.raises(FilterInvalid):
        parse_rate(text_)


def test_backlog_is_a_celery_command(engine: Engine, broker_url: str, settings: Settings) -> None:
    plan(engine, "inventory_push", 2)
    celery = [sys.executable, "-m", "celery", "-A", "tasks"]

    shown = subprocess.run(
        [*celery, "backlog", "--json"], capture_output=True, text=True, check=True, timeout=60
    )

    answer = json.loads(shown.stdout)
    assert [row["waiting"] for row in answer["topics"] if row["topic"] == "inventory_push"] == [2]
    assert [row["drift"] for row in answer["queues"] if row["queue"] == "inventory"] == [2]
