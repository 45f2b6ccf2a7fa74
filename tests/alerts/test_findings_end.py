"""The findings of a chain end by its name, and by no incident that somebody changed."""

import json

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from tests.alerts.test_gate import NAME, broken, codes, rename, run, verify, without_owner

__all__ = ["broken", "without_owner"]


def test_the_owner_ends_a_finding_whose_incident_was_deleted(
    engine: Engine, owner_engine: Engine, broken: dict[int, int]
) -> None:
    rename(owner_engine, NAME)
    with transaction(engine) as tx:
        tx.execute(text("delete from incidents where id = :id"), {"id": broken[1]})
    assert "a deleted incident" in run("gate").output

    planned = run("audit", "resolve", "1", "--reason", "repaired", "--actor", "ada", "--dry-run")
    assert (planned.exit_code, planned.output.startswith("Would resolve: ")) == (0, True), planned.output
    assert "of the chain of shop 1" in planned.output
    done = run("audit", "resolve", "1", "--reason", "repaired", "--actor", "ada", "--json")
    assert json.loads(done.stdout)["changed"] is True
    verify()
    assert [one["incident"] for one in json.loads(run("gate", "--json").stdout)["reasons"]] == [broken[2]]
    with transaction(engine) as tx:
        audited = tx.execute(
            text("select staff_label, shop_id from audit_events where action = 'audit.resolve'")
        )
        assert [tuple(row) for row in audited] == [("ada", 1)]
    again = run("audit", "resolve", "1", "--reason", "repaired")
    assert (again.exit_code, "should be one of" in again.output) == (2, True), again.output


def test_it_ends_the_incident_too(owner_engine: Engine, broken: dict[int, int]) -> None:
    rename(owner_engine, NAME)
    done = run("audit", "resolve", "1", "--reason", "repaired", "--actor", "ada")
    assert done.exit_code == 0, done.output
    shown = json.loads(run("incidents", "show", str(broken[1]), "--json").stdout)
    assert (shown["status"], shown["resolved_by"]) == ("resolved", "ada")


@pytest.mark.usefixtures("broken", "without_owner")
def test_only_the_owner_ends_a_finding_by_its_chain() -> None:
    refused = run("audit", "resolve", "1", "--reason", "it is fine")
    assert (refused.exit_code, "only the owner of the tables resolves them" in refused.output) == (1, True)
    assert codes() == ["audit_chain_broken", "audit_chain_broken"]


@pytest.mark.parametrize("arguments", [("incidents", "resolve"), ("gate", "--for")])
@pytest.mark.parametrize(
    "change",
    [
        "shop_id = 2, period = 'x'",
        "shop_id = 2, period = 'x', summary = 'of shop 2'",
        "shop_id = null",
        "detail = '{}'",
    ],
)
def test_a_changed_incident_ends_no_finding_of_another_chain(
    engine: Engine, broken: dict[int, int], arguments: tuple[str, ...], change: str
) -> None:
    with transaction(engine) as tx:
        tx.execute(text(f"update incidents set {change} where id = :id"), {"id": broken[1]})  # noqa: S608
    run(*arguments, str(broken[1]), "--reason", "it is fine", "--actor", "ada")

    with transaction(engine) as tx:
        decided = tx.execute(text("select count(*) from audit_verifications where decided_by is not null"))
        assert decided.scalar_one() == 0
    assert codes() == ["audit_chain_broken", "audit_chain_broken"]
