"""``fleet stages``: the acting person is the one of an API token."""

import json

import pytest
from sqlalchemy import Engine

from tests.cli.commands import run
from tests.shopfloor.floor import make_floor, place_order, sign_in
from tests.shopify.sample_payloads import ORDER, rows

NAME = f"#{ORDER % 1000}"
AT = ("--shop", "harbour", "--token-stdin")


@pytest.fixture
def token(engine: Engine) -> str:
    """An API token with the role floor, of Ana."""
    make_floor(engine)
    place_order(engine, note="no nuts")
    sign_in(engine, "Ana")
    return run("users", "token", "ana@example.com", "--role", "floor").output.strip()


def test_order_is_advanced_and_shown(engine: Engine, token: str) -> None:
    started = run("stages", "advance", NAME, *AT, answer=token)
    finished = run("stages", "advance", str(ORDER), *AT, "--json", answer=f"{token}\n")

    assert (started.exit_code, started.output) == (0, f"order {NAME}: Filling started by Ana\n")
    assert json.loads(finished.output)["stage_after"] == "Covering"
    shown = json.loads(run("stages", "show", NAME, "--shop", "harbour", "--json").output)
    assert [(one["stage"], one["finished_by"]) for one in shown["stages"]] == [("Filling", "Ana")]
    assert "no nuts" in run("stages", "show", NAME, "--shop", "harbour").output
    board = run("stages", "show", "--shop", "harbour", "--stage", "Covering").output
    assert NAME in board
    actors = rows(engine, "select distinct staff_label from audit_events where action like 'floor.%'")
    assert actors == [("ana@example.com",)]


def test_dry_run_changes_nothing(engine: Engine, token: str) -> None:
    result = run("stages", "advance", NAME, *AT, "--dry-run", answer=token)

    assert "Would be: " in result.output
    assert rows(engine, "select count(*) from order_stages") == [(0,)]
    assert rows(engine, "select count(*) from audit_events where action like 'floor.%'") == [(0,)]


def test_refusals_exit_with_1_and_wrong_input_with_2(engine: Engine, token: str) -> None:
    refused = run("stages", "undo", NAME, *AT, answer=token)
    early = run("stages", "advance", NAME, *AT, "--action", "finish", "--json", answer=token)
    unknown = run("stages", "advance", "#404", *AT, answer=token)
    stage = run("stages", "show", "--shop", "harbour", "--stage", "Packng")
    silent = run("stages", "advance", NAME, "--shop", "harbour")
    forged = run("stages", "advance", NAME, *AT, answer="Ana")

    assert (refused.exit_code, "NOT_ALLOWED" in refused.output) == (1, True)
    assert (early.exit_code, json.loads(early.output)["code"]) == (1, "INVALID_STAGE")
    assert (unknown.exit_code, "there is no order '#404'" in unknown.output) == (2, True)
    assert (stage.exit_code, "should be one of Filling" in stage.output) == (2, True)
    assert (silent.exit_code, "--token-stdin" in silent.output) == (2, True)
    assert (forged.exit_code, "sign in again" in forged.output) == (1, True)


def test_admin_assigns_undoes_and_sets_stages(engine: Engine, token: str) -> None:
    run("users", "set", "ana@example.com", "--role", "admin")
    admin = run("users", "token", "ana@example.com", "--role", "admin").output.strip()
    run("stages", "advance", NAME, *AT, answer=token)

    assigned = run("stages", "assign", NAME, *AT, "--person", "ana@example.com", answer=admin)
    undone = run("stages", "undo", NAME, *AT, answer=admin)
    changed = run("stages", "set", "Filling, Sent", *AT, answer=admin)

    assert assigned.output == f"order {NAME} is assigned to Ana\n"
    assert undone.output == f"order {NAME}: Filling undone by Ana\n"
    assert changed.output == "harbour has the stages Filling, Sent.\n"
