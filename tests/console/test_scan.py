"""The morning scan's classifier: every cell in every state it can have, and the verdict."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.alerts.rules import RULES
from services.console import scan_cells
from services.console.scan import classify_fleet, classify_shop, find_night, plan_verdict, sort_scans
from services.console.scan_facts import (
    COLUMNS,
    RULES_LIMIT,
    STATES,
    BadRun,
    Night,
    OpenIncident,
    ShopFacts,
    ShopScan,
    Sources,
)
from services.costs.month import MonthCosts
from services.shops.connections import ConnectionState

NOW = datetime(2026, 11, 29, 14, 0, tzinfo=UTC)
DAY = date(2026, 11, 28)
SOURCES = Sources(NOW, NOW)
RUN: dict[str, Any] = {
    "day": "2026-11-28",
    "at": "2026-11-29T05:00:10+00:00",
    "payments": "clean",
    "requests": {"count": 1204, "failed": 0},
    "audit": {"verified": True},
}
OLD_RUN = RUN | {"day": "2026-11-26"}


def costs(kind: str, cents: int, limit: str = "50.00 CAD", currency: str = "CAD") -> dict[str, MonthCosts]:
    month = MonthCosts(
        shop_id=1, shop="harbour", timezone="America/Toronto", kind=kind, month="2026-11",
        micros={currency: cents * 10_000}, limit=limit, rates="",
    )  # fmt: skip
    return {kind: month}


def connection(status: str = "ok") -> ConnectionState:
    code = "" if status == "ok" else "stripe.key_refused"
    return ConnectionState(1, "stripe", status, code, "", NOW, NOW)


def incident(rule: str, severity: str = "P2", *, is_quiet: bool = False) -> OpenIncident:
    return OpenIncident(7, rule, severity, f"{rule} is open", NOW - timedelta(hours=3), is_quiet)


FINE = ShopFacts(
    shop_id=1,
    slug="harbour",
    name="Harbour",
    timezone="America/Toronto",
    night=Night(DAY, NOW),
    last_run=RUN,
    connections=[connection()],
)


def classify(sources: Sources = SOURCES, **changes: Any) -> ShopScan:
    return classify_shop(replace(FINE, **changes), sources, NOW)


CASES: list[tuple[str, str, dict[str, Any], str]] = [
    ("requests", "fine", {}, "0 of 1,204"),
    ("requests", "fine", {"last_run": RUN | {"requests": {"count": 0, "failed": 0}}}, "no requests"),
    ("requests", "warn", {"last_run": RUN | {"requests": {"count": 200, "failed": 3}}}, "3 of 200 (1.5%)"),
    ("requests", "unknown", {"last_run": OLD_RUN}, "no run of 2026-11-28, last 2026-11-26"),
    ("requests", "unknown", {"last_run": {k: v for k, v in RUN.items() if k != "requests"}}, "not counted"),
    ("requests", "red", {"incidents": [incident("requests_failed:/webhooks")]}, "is open"),
    ("reconciliation", "fine", {}, "clean"),
    ("reconciliation", "fine", {"last_run": RUN | {"payments": "no_stripe"}}, "no stripe"),
    ("reconciliation", "fine", {"last_run": RUN | {"payments": "breaks"}}, "solved since"),
    ("reconciliation", "unknown", {"last_run": RUN | {"payments": "not_compared", "error_code": "x"}}, "x"),
    ("reconciliation", "unknown", {"last_run": None}, "no run of 2026-11-28"),
    (
        "reconciliation",
        "unknown",
        {"last_run": None, "night": Night(None, NOW)},
        "run 2026-11-29 09:00",
    ),
    ("reconciliation", "unknown", {"last_run": None, "night": Night(None, None)}, "is beat running"),
    ("reconciliation", "unknown", {"night": Night(DAY, None, enabled=False)}, "switched off"),
    ("reconciliation", "red", {"incidents": [incident("reconciliation_break")]}, "is open"),
    ("reconciliation", "warn", {"incidents": [incident("break_old", is_quiet=True)]}, "is open"),
    ("audit", "fine", {}, "verified"),
    ("audit", "warn", {"last_run": RUN | {"audit": {"verified": False}}}, "altered, resolved since"),
    ("audit", "red", {"incidents": [incident("audit_chain_failed", "P1")]}, "is open"),
    ("audit", "unknown", {"last_run": OLD_RUN}, "no run"),
    ("audit", "unknown", {"last_run": {k: v for k, v in RUN.items() if k != "audit"}}, "not verified"),
    ("connections", "warn", {"has_catalogue": False}, "catalogue not read yet"),
    ("jobs", "fine", {}, "on time"),
    (
        "jobs",
        "red",
        {"bad_runs": [BadRun("sms-costs 2026-11-28", False, NOW)]},
        "2026-11-28 failed",
    ),
    ("jobs", "red", {"bad_runs": [BadRun("a", True, NOW), BadRun("b", False, NOW)]}, "a is late and 1 more"),
    ("jobs", "warn", {"incidents": [incident("run_too_long:gap-healing", "P3")]}, "is open"),
    ("jobs", "unknown", {"sources": Sources(None, NOW)}, "never evaluated"),
    ("ai", "fine", {}, "nothing"),
    ("ai", "fine", {"costs": costs("ai", 3999)}, "80% of 50.00 CAD"),
    ("ai", "fine", {"costs": costs("ai", 99999, "")}, "no limit"),
    ("ai", "warn", {"costs": costs("ai", 4000)}, "80% of 50.00 CAD"),
    ("ai", "warn", {"costs": costs("ai", 100, currency="USD")}, "without 1.00 USD"),
    ("sms", "warn", {"costs": costs("sms", 100, currency="USD")}, "without 1.00 USD"),
    ("ai", "red", {"costs": costs("ai", 5000)}, "100% of 50.00 CAD"),
    ("sms", "fine", {"costs": costs("sms", 100)}, "2% of 50.00 CAD"),
    ("sms", "warn", {"costs": costs("sms", 5100)}, "102% of 50.00 CAD"),
    ("sms", "red", {"incidents": [incident("sms_over_budget")]}, "is open"),
    ("work", "fine", {}, "0"),
    ("work", "red", {"dead": 1200, "dead_since": NOW}, "1,200"),
    ("connections", "fine", {}, "1 accepted"),
    ("connections", "unknown", {"connections": []}, "not used yet"),
    ("connections", "warn", {"has_token": False}, "no Shopify token"),
    ("connections", "warn", {"incidents": [incident("credential_expires:quo", "P3")]}, "is open"),
    ("connections", "red", {"connections": [connection("broken")]}, "stripe: stripe.key_refused"),
    ("incidents", "fine", {}, "0"),
    ("incidents", "warn", {"incidents": [incident("secret_old", "P3")]}, "1 P3"),
    ("incidents", "warn", {"incidents": [incident("stock_oversold", is_quiet=True)]}, "1 P2"),
    ("incidents", "red", {"incidents": [incident("stock_oversold"), incident("x", "P3")]}, "1 P2, 1 P3"),
    (
        "incidents",
        "unknown",
        {"sources": Sources(NOW - RULES_LIMIT * 1.1, NOW)},
        "5 min ago",
    ),
    ("incidents", "unknown", {"sources": Sources(NOW, NOW - RULES_LIMIT * 2)}, "beat was seen 10 min ago"),
    ("incidents", "unknown", {"sources": Sources(NOW, None)}, "beat was never seen"),
    ("incidents", "unknown", {"sources": Sources(NOW, NOW, is_cut=True)}, "too many"),
]


@pytest.mark.parametrize(("column", "state", "changes", "text"), CASES)
def test_a_cell_has_its_state_text_evidence_and_changes_the_line(
    column: str, state: str, changes: dict[str, Any], text: str
) -> None:
    scan = classify(**changes)

    cell = scan.cells[column]
    assert (cell.state, text in cell.text) == (state, True), cell
    assert cell.url.startswith("/shops/harbour#") or "=harbour" in cell.url or cell.url == "/incidents/7"
    assert STATES.index(scan.state) <= STATES.index(state)
    assert list(scan.cells) == list(COLUMNS)


def test_the_cases_have_every_state_that_a_cell_can_have() -> None:
    found = {(column, state) for column, state, *_ in CASES}

    assert found >= {(column, state) for column in COLUMNS for state in ("red", "fine")}
    assert {column for column, state in found if state == "unknown"} == set(COLUMNS) - {"ai", "sms", "work"}


def test_a_shop_with_all_its_figures_is_fine() -> None:
    assert classify().state == "fine"


def test_every_rule_that_changes_a_cell_exists() -> None:
    assert scan_cells._COLUMN_OF_RULE.keys() <= RULES.keys()
    assert set(scan_cells._COLUMN_OF_RULE.values()) <= set(COLUMNS)


def test_the_night_is_due_after_its_slot_in_the_zone_of_the_shop() -> None:
    zone = ZoneInfo("America/Toronto")
    midnight = datetime(2026, 11, 29, tzinfo=zone)

    assert find_night("0 0 * * *", zone, midnight) == (midnight, date(2026, 11, 28))
    assert find_night("0 0 * * *", zone, midnight - timedelta(seconds=1)) == (
        midnight - timedelta(days=1), date(2026, 11, 27),
    )  # fmt: skip


def test_lines_are_sorted_the_worst_first() -> None:
    lines = [
        classify(slug="fine"),
        classify(slug="warned", dead=0, has_token=False),
        classify(slug="unknown", last_run=None),
        classify(slug="red", dead=1),
        classify(slug="redder", dead=1, connections=[connection("broken")]),
        classify(slug="also-fine"),
    ]

    assert [line.slug for line in sort_scans(lines)] == [
        "redder", "red", "unknown", "warned", "also-fine", "fine",
    ]  # fmt: skip


def test_the_verdict_counts_only_shops_that_are_fine() -> None:
    lines = [classify(slug=f"shop{n}") for n in range(37)] + [classify(last_run=OLD_RUN)]

    verdict = plan_verdict(lines, None, SOURCES, NOW)

    assert verdict == ("unknown", "37 of 38 shops fine", "")


@pytest.mark.parametrize(
    "sources", [Sources(None, NOW), Sources(NOW, None), Sources(NOW - timedelta(minutes=6), NOW)]
)
def test_the_verdict_is_not_fine_without_recent_figures(sources: Sources) -> None:
    lines = [classify(sources)]

    verdict = plan_verdict(lines, None, sources, NOW)

    assert (verdict.state, verdict.text) == ("unknown", "0 of 1 shop fine")
    assert "beat" in verdict.why


def test_the_verdict_without_shops_is_unknown() -> None:
    assert plan_verdict([], None, SOURCES, NOW)[:2] == ("unknown", "No shops yet")


def test_the_verdict_contains_the_fleet() -> None:
    facts = replace(
        FINE, shop_id=0, slug="", incidents=[incident("heartbeat_old:beat", "P1")], connections=[]
    )
    fleet = classify_fleet(facts, NOW, SOURCES, NOW)

    assert fleet.state == "red"
    assert plan_verdict([classify()], fleet, SOURCES, NOW).state == "red"
    fine = classify_fleet(replace(facts, incidents=[]), NOW, SOURCES, NOW)
    assert fine.state == "fine"
    assert classify_fleet(replace(facts, incidents=[]), None, SOURCES, NOW).state == "unknown"


def test_the_text_of_an_incident_has_no_time_that_is_cut_off() -> None:
    summary = "quo refuses the credentials since 2026-11-30 10:00: x"
    broken = incident("connection_broken")._replace(summary=summary)
    cell = scan_cells.Cell("connections", "fine", "3 accepted", NOW, "")
    raised = scan_cells.raise_by_incidents(cell, replace(FINE, incidents=[broken]))

    assert (raised.text, raised.since) == ("quo refuses the credentials", broken.opened_at)
