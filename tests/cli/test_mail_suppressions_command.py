"""``fleet mail suppressions``: lists, adds and removes."""

import json

from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.cli.main import main
from tests.cli.conftest import harbour
from tests.mail.mails import audit_of
from tests.shopify.sample_payloads import rows

__all__ = ["harbour"]


def fleet(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["mail", "suppressions", *arguments])


def listed(*arguments: str) -> list[tuple[str, str, str]]:
    documents = json.loads(fleet("list", "--json", *arguments).output)
    return [(one["shop"], one["address"], one["cause"]) for one in documents]


def test_a_person_blocks_and_allows_an_address(engine: Engine, harbour: str) -> None:
    why = ("--reason", "she wrote that it is wrong", "--as", "ada")
    planned = fleet("add", "Ada@example.com", "--shop", harbour, *why, "--dry-run")
    assert "would be stopped" in planned.output
    assert listed() == []
    added = fleet("add", "ada@example.com", "--shop", harbour, *why)
    assert "Mail of harbour to a***@example.com is stopped (blocked_by_person)." in added.output
    again = fleet("add", "Ada@example.com", "--shop", harbour, *why)
    assert (again.exit_code, "already" in again.output) == (0, True)
    assert fleet("add", "ada@example.com", *why).exit_code == 0

    assert listed() == [
        ("fleet", "a***@example.com", "blocked_by_person"),
        ("harbour", "a***@example.com", "blocked_by_person"),
    ]
    assert len(listed("--shop", harbour, "--address", "ADA@example.com")) == 1
    assert listed("--cause", "bounced") == []
    assert "ada@example.com" not in fleet("list").output
    removed = fleet("remove", "ada@example.com", "--shop", harbour, "--reason", "she agreed", "--json")
    assert json.loads(removed.output)["causes"] == ["blocked_by_person"]
    nothing = fleet("remove", "ada@example.com", "--shop", harbour, "--reason", "she agreed")
    assert (nothing.exit_code, "is not suppressed" in nothing.output) == (0, True)
    actions = [action for action, _ in audit_of(engine)]
    assert actions[-3:] == ["mail.suppress", "mail.suppress", "mail.unsuppress"]
    labels = rows(engine, "select distinct staff_label from audit_events where action = 'mail.suppress'")
    assert labels == [("ada",)]
