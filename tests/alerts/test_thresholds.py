"""A person sets the threshold of a rule for one shop or for the fleet: audited, without a restart."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from services.alerts.decide import Change
from services.alerts.evaluate import evaluate_rules
from services.alerts.figures import Figure
from services.alerts.incidents import find_incidents
from services.alerts.rules import RULES
from services.alerts.states import list_rule_status
from services.alerts.thresholds import list_rule_settings, load_thresholds, set_threshold
from services.core.db import transaction
from services.core.errors import InputInvalid, NothingToDo
from services.ledger.work import FLEET
from services.shops.shops import add_shop
from tests.cli.commands import run

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
AUTHOR: Any = {"now": NOW, "by": "ada", "reason": "a test of the sender"}
RULE = "signature_failures"


def evaluate(tx: Connection, *values: tuple[float, int], at: datetime = NOW) -> list[tuple[Change, int]]:
    figures = [Figure(value, shop, detail={"provider": "stripe", "senders": "a"}) for value, shop in values]
    return [(one.change, one.key.shop_id) for one in evaluate_rules(tx, {RULE: figures}, at)]


def test_a_shop_has_its_own_threshold_and_the_summary_shows_it(tx: Connection) -> None:
    set_threshold(tx, RULE, 7, 5, **AUTHOR)

    assert evaluate(tx, (4, 7), (3, 8)) == [(Change.OPENED, 8)]
    assert list_rule_status(tx)[RULE].shops_beyond == 1
    assert evaluate(tx, (5, 7), (3, 8), at=NOW + MINUTE) == [(Change.OPENED, 7)]
    summaries = {one.shop_id: one.summary for one in find_incidents(tx)}
    assert "(limit 5)" in summaries[7]
    assert "(limit 3)" in summaries[8]
    assert {one.shop_id: one.detail["limit"] for one in find_incidents(tx)} == {7: 5, 8: 3}


def test_the_fleets_threshold_is_for_shops_without_their_own_and_unset_returns_to_it(tx: Connection) -> None:
    set_threshold(tx, RULE, FLEET, 10, **AUTHOR)
    set_threshold(tx, RULE, 7, 5, **AUTHOR)
    assert evaluate(tx, (9, 7), (9, 8)) == [(Change.OPENED, 7)]

    assert set_threshold(tx, RULE, 7, None, **AUTHOR) == 5
    changes = [change for step in range(1, 12) for change in evaluate(tx, (9, 7), at=NOW + step * MINUTE)]
    assert changes == [(Change.RECOVERED, 7)]
    set_threshold(tx, RULE, FLEET, None, **AUTHOR)
    assert list_rule_settings(tx) == []


@pytest.mark.parametrize("shop_id", [FLEET, 7])
def test_a_higher_threshold_ends_an_incident_at_the_next_evaluation_and_says_why(
    tx: Connection, shop_id: int
) -> None:
    assert evaluate(tx, (4, 7), (9, 8)) == [(Change.OPENED, 7), (Change.OPENED, 8)]
    set_threshold(tx, RULE, shop_id, 5, **AUTHOR)

    assert evaluate(tx, (4, 7), (9, 8), at=NOW + MINUTE) == [(Change.RECOVERED, 7)]
    (ended,) = find_incidents(tx, states=["resolved"])
    assert "now 4 per hour (limit 5, which ada set: a test of the sender)." in ended.summary
    assert evaluate(tx, (4, 7), (9, 8), at=NOW + 2 * MINUTE) == []


def test_a_threshold_that_was_set_before_ends_an_incident_after_the_rules_time(tx: Connection) -> None:
    set_threshold(tx, RULE, 7, 5, **AUTHOR)
    assert evaluate(tx, (6, 7), at=NOW + MINUTE) == [(Change.OPENED, 7)]
    changes = [evaluate(tx, (4, 7), at=NOW + step * MINUTE) for step in range(2, 15)]

    assert [place for place, one in enumerate(changes) if one] == [10]


def test_a_lower_threshold_is_shown_by_the_open_incident_and_opens_others(tx: Connection) -> None:
    assert evaluate(tx, (4, 7), (2, 8)) == [(Change.OPENED, 7)]
    set_threshold(tx, RULE, FLEET, 2, **AUTHOR)

    assert evaluate(tx, (4, 7), (2, 8), at=NOW + MINUTE) == [(Change.OPENED, 8)]
    assert all("(limit 2)" in one.summary for one in find_incidents(tx))


@pytest.mark.parametrize(
    ("name", "shop_id", "threshold", "reason", "fault"),
    [
        (RULE, 7, -1.0, "x", "threshold=-1 should be from 0"),
        (RULE, 7, float("nan"), "x", "threshold=nan should be from 0"),
        ("heartbeat_old", FLEET, 29.0, "x", "threshold=29 should be from 30"),
        (RULE, 7, float("inf"), "x", "threshold=inf should be from 0"),
        (RULE, 7, 5.0, " ", "reason is empty"),
        ("heartbeat_old", 7, 90.0, "x", "the figures of heartbeat_old belong to no shop"),
    ],
)
def test_a_wrong_threshold_is_refused(
    tx: Connection, name: str, shop_id: int, threshold: float, reason: str, fault: str
) -> None:
    with pytest.raises(InputInvalid, match=fault):
        set_threshold(tx, name, shop_id, threshold, now=NOW, by="ada", reason=reason)
    with pytest.raises(NothingToDo, match=r"no threshold of .* is set here"):
        set_threshold(tx, name, FLEET, None, **AUTHOR)
    assert load_thresholds(tx) == {}


@pytest.fixture
def harbour(engine: Engine) -> int:
    with transaction(engine) as tx:
        return add_shop(tx, slug="harbour", name="H", timezone="UTC", currency="CAD", now=NOW).id


SET = (
    "alerts",
    "set",
    RULE,
    "--shop",
    "harbour",
    "--threshold",
    "12",
    "--reason",
    "a new sender",
    "--as",
    "ada",
)


def test_the_command_sets_lists_and_unsets_with_an_audit_of_the_shop(engine: Engine, harbour: int) -> None:
    assert "would change: 3 -> 12 per hour" in run(*SET, "--dry-run").output
    with transaction(engine) as tx:
        assert load_thresholds(tx) == {}

    assert "signature_failures of harbour changed: 3 -> 12 per hour" in run(*SET).output
    assert "no limit changes" in run(*SET).output
    assert json.loads(run("alerts", "set", RULE, "--threshold", "4", "--reason", "x", "--json").stdout) == {
        "rule": RULE, "shop": None, "before": 3, "threshold": 4, "unit": "per hour",
    }  # fmt: skip
    short, whole = run("alerts", "list").output, run("alerts", "list", "--all").output
    assert "fleet 4, harbour 12" in short
    assert len(short.splitlines()) == len(RULES) + 4, "a line for each rule"
    assert ("timedatectl" in short, "timedatectl" in whole) == (False, True)
    found = {row["name"]: row["settings"] for row in json.loads(run("alerts", "list", "--json").stdout)}
    assert [(one["shop"], one["threshold"], one["by"]) for one in found[RULE]][1] == ("harbour", 12, "ada")
    assert found["secret_old"] == []

    unset = ("alerts", "unset", RULE, "--shop", "harbour", "--reason", "done", "--as", "ada")
    assert "changed: 12 -> 4 per hour" in run(*unset).output
    assert json.loads(run(*unset, "--json").stdout)["changed"] is False
    with transaction(engine) as tx:
        audited = (
            "select action, shop_id, staff_label from audit_events where action like 'rule.%' order by id"
        )
        assert [tuple(row)[:2] for row in tx.execute(text(audited))] == [
            ("rule.set", harbour),
            ("rule.set", None),
            ("rule.unset", harbour),
        ]


@pytest.mark.parametrize(
    "line",
    [
        ("set", "work_dead", "--threshold", "1", "--reason", "x"),
        ("set", RULE, "--threshold", "1"),
        ("set", RULE, "--threshold", "much", "--reason", "x"),
        ("set", "database_large", "--shop", "harbour", "--threshold", "1", "--reason", "x"),
    ],
)
def test_a_wrong_line_is_wrong_usage(engine: Engine, harbour: int, line: tuple[str, ...]) -> None:
    result = run("alerts", *line)
    assert (result.exit_code, "Error: " in result.output) == (2, True)
