"""Commands, lists of work and events and bulk actions find the same rows by the same filters."""

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.cli.events import print_events, replay
from services.cli.work import work_list
from services.console.lists import EVENTS, WORK
from services.core.db import transaction
from tasks.commands import discard, requeue
from tests.cli.commands import run as run_fleet
from tests.cli.test_celery_commands import dead, harbour, run
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.ledger_rows import accept, new_event

__all__ = ["harbour"]

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "services" / "cli").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]


def test_every_filter_of_the_list_that_is_not_masked_is_an_option_of_the_commands() -> None:
    wanted = {one.name for one in WORK.filters if one.role == Role.VIEWER}

    for command in (requeue, discard, work_list):
        assert wanted <= {param.name for param in command.params}, command.name


@pytest.mark.parametrize(
    ("option", "value", "count"),
    [
        ("error-code", "a.b", 1), ("error-code", "a", 0), ("key", "42", 1), ("origin", "replay", 1),
        ("until", "2026-01-02", 1), ("since", "2026-01-02", 2), ("shop", "harbour", 3), ("status", "dead", 3),
        ("queue", "inventory", 3), ("queue", "email", 0), ("topic", "inventory_push", 3),
    ],
)  # fmt: skip
def test_a_filter_finds_the_rows_of_the_list(
    engine: Engine, harbour: int, option: str, value: str, count: int
) -> None:
    first, second, _ = dead(engine, 3, shop_id=harbour)
    with transaction(engine) as tx:
        for row_id, change in ((first, "error_code = 'a.b', key = '42'"), (second, "origin = 'replay'")):
            tx.execute(text(f"update work_queue set {change} where id = {row_id}"))  # noqa: S608 - constants
        tx.execute(text("update work_queue set created_at = '2026-01-01' where id = :id"), {"id": first})
    client = sign_in_as(make_console(engine), Role.VIEWER)

    answer = json.loads(run(requeue, f"--{option}", value, "--dry-run", "--json").output)

    listed = client.get(f"/api/v1/work?{option.replace('-', '_')}={value}").get_json()
    assert (answer["count"], listed["count"]) == (count, count)


def test_every_filter_of_the_list_of_events_that_is_not_masked_is_an_option_of_the_commands() -> None:
    wanted = {one.name for one in EVENTS.filters if one.role == Role.VIEWER}

    for command in (replay, print_events):
        assert wanted <= {param.name for param in command.params}, command.name


@pytest.mark.parametrize(
    ("option", "value", "count"),
    [
        ("delivery-key", "delivery-1", 1), ("request-id", "request-2", 1), ("origin", "webhook", 3),
        ("origin", "replay", 1), ("provider", "stripe", 1), ("topic", "orders/create", 2),
        ("delivery-key", "none", 0),
    ],
)  # fmt: skip
def test_a_filter_replays_the_events_of_the_list(
    engine: Engine, harbour: int, option: str, value: str, count: int
) -> None:
    accept(engine, *(new_event(number, shop_id=harbour) for number in (1, 2)))
    accept(engine, new_event(3, shop_id=harbour, provider="stripe", topic="charge.failed"))
    accept(engine, new_event(4, shop_id=harbour, origin="replay", replay_of=1))
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    filters = {option.replace("-", "_"): value}

    listed = client.get("/api/v1/events", query_string=filters).get_json()["count"]
    answer = json.loads(run_fleet("events", "replay", f"--{option}", value, "--dry-run", "--json").output)
    plan = {"list": "events", "action": "replay", "filters": filters, "dry_run": True}
    headers = {"X-CSRFToken": read_csrf_token(client)}
    bulk = client.post("/api/v1/bulk-actions", json=plan, headers=headers).get_json()

    assert listed == count + answer["left_out"]
    assert (answer["count"], bulk["count"]) == (count, count)


def test_every_empty_list_of_a_command_has_one_form() -> None:
    texts = [
        text for path in SOURCES for text in re.findall(r'"(No [^"]* match(?:es)?\.)"', path.read_text())
    ]

    assert len(texts) > 5
    assert [text for text in texts if not text.endswith(" matches.")] == []


def test_times_in_the_wrong_order_are_refused() -> None:
    result = run(requeue, "--since", "2026-01-02", "--until", "2026-01-01", "--dry-run")

    assert result.exit_code == 2
    assert "should be after --since" in result.output
