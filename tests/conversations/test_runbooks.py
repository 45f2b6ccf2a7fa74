"""The page of runbooks, executed command by command in its order."""

import re
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.topics import TOPICS
from tasks import commands
from tests.cli.commands import run
from tests.cli.test_celery_commands import run as run_own_command
from tests.conversations.notion_shop import NotionShop, shop_with_notion
from tests.conversations.quo_events import make_call, make_part
from tests.conversations.test_backfill import call

PAGE = Path(__file__).parents[2] / "docs" / "conversations-runbooks.md"
SECTIONS = dict(re.findall(r"^## (.+)\n((?:.|\n)*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE))
COMMANDS = {
    title: re.findall(r"^ {7}((?:fleet|celery|psql) .+)$", text, re.MULTILINE)
    for title, text in SECTIONS.items()
}


@pytest.fixture
def acme(engine: Engine) -> Iterator[NotionShop]:
    with shop_with_notion(engine) as one:
        yield one


def execute(one: NotionShop, line: str, numbers: dict[str, int]) -> Result | int:
    """Run a line of the page with the names and numbers of the test; return how it ended, or a count."""
    for name, number in numbers.items():
        line = re.sub(rf"\b{name}\b", str(number), line)
    program, *words = shlex.split(line.replace("--shop harbour", "--shop acme"))
    if program == "psql":
        ((count,),) = one.rows(words[-1])
        return int(count)
    if program == "fleet":
        return run(*words)
    return run_own_command(getattr(commands, words[2]), *words[3:])


def follow(one: NotionShop, title: str, **numbers: int) -> list[str | int]:
    """Run the commands of a runbook, each with success; let the workers do their work after each."""
    shown: list[str | int] = []
    for line in COMMANDS[title]:
        ended = execute(one, line, {name[1:]: number for name, number in numbers.items()})
        if isinstance(ended, Result):
            assert ended.exit_code == 0, (line, ended.output)
        shown.append(ended.output if isinstance(ended, Result) else ended)
        one.run_to_the_end() if "--dry-run" not in line and "pause" not in line else None
    return shown


def test_every_runbook_is_executed_here() -> None:
    assert {*COMMANDS} == {"Refresh the cache", "Run the backfill again", "Repair failed runs"}
    assert sum(map(len, COMMANDS.values())) == len(re.findall(r"^ {7}\S", PAGE.read_text(), re.MULTILINE))


def test_the_cache_is_refreshed_and_one_key_is_rebuilt(acme: NotionShop) -> None:
    acme.receive(make_call())
    acme.run_to_the_end()
    with transaction(acme.engine) as tx:
        tx.exec_driver_sql("update canvas_cache set expires_at = now() - interval '1 hour'")
    status, _, refreshed, listed, *_, entry, after = map(str, follow(acme, "Refresh the cache"))

    assert "100" in status and "1" in refreshed
    assert "canvas:phone:" in listed
    assert acme.pages()[0]["id"] in entry
    assert '"stale": 0' in after
    assert acme.rows("select count(*) from canvas_invalidations") == [(1,)]
    assert acme.rows("select min(expires_at) > now() + interval '6 hours' from canvas_cache") == [(True,)]
    assert len(acme.pages()) == 1


def test_missing_history_is_read_again(acme: NotionShop) -> None:
    assert run("conversations", "backfill", "--days", "30").exit_code == 0
    acme.control_quo(calls=[call(5, utc_now() - timedelta(days=10))], limit=0)
    shown = follow(acme, "Run the backfill again")
    counts = [one for one in shown if isinstance(one, int)]

    assert all(re.search(r"complete +1 ", str(one)) for one in shown[1:3])
    assert counts == [0, 1, 0]
    assert len(acme.pages()) == 1


def test_dead_steps_go_on_after_the_cause_is_corrected(acme: NotionShop) -> None:
    acme.receive(make_call(), make_part("summary"))
    acme.run("interaction_ingest", "notion_find", "interaction_fetch", "interaction_enrich")
    acme.control(fail_next={"status": 401, "count": 1})
    acme.run("notion_write")
    acme.receive(make_call("AC2", "+15550000003"))
    acme.control(fail_next={"status": 401, "count": 1})
    acme.run("interaction_ingest", "notion_find")
    (work, event), *_ = acme.rows(
        "select id, event_id from work_queue where topic = 'notion_write' and status = 'dead' order by id"
    )
    assert acme.rows("select 1 from work_queue where topic = 'notion_find' and status = 'dead'")
    listed, steps, payload, *_, left = map(str, follow(acme, "Repair failed runs", n841=work, n377=event))

    assert "dead" in listed
    assert "notion_find" in steps and "notion_write" in steps
    assert "AC1" in payload
    assert not acme.rows("select 1 from work_queue where status <> 'done'"), left
    assert sorted(len(set(titles)) for titles in acme.titles()) == [1, 2]
    assert all(len(titles) == len(set(titles)) for titles in acme.titles())


def test_the_worker_whose_log_level_changes_has_the_queue_of_notion() -> None:
    (node,) = re.findall(r"log_level debug -d (\w+)@HOST", PAGE.read_text())
    production = (PAGE.parent / "production.md").read_text()
    (queues,) = re.findall(rf"worker -Q (\S+) .* -n {node}@", production)
    assert TOPICS["notion_write"].queue in queues.split(",")
