"""Commands and the console's list of work find the same rows by the same filters."""

import json

import pytest
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.cli.work import work_list
from services.console.lists import WORK
from services.core.db import transaction
from tasks.commands import discard, requeue
from tests.cli.test_celery_commands import dead, harbour, run
from tests.console.people import make_console, sign_in_as

__all__ = ["harbour"]


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


def test_times_in_the_wrong_order_are_refused() -> None:
    result = run(requeue, "--since", "2026-01-02", "--until", "2026-01-01", "--dry-run")

    assert result.exit_code == 2
    assert "should be after --since" in result.output
