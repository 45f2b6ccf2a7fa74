"""``fleet overview``: one line a shop, the worst first, from a fixed number of bounded queries."""

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.core.clock import utc_now
from services.core.db import transaction
from services.costs.month import AI
from services.costs.store import Cost, record_cost
from services.jobs import shop_overview
from services.jobs.shop_overview import read_shop_overview
from tests.cli.commands import run

NOW = utc_now()

_SHOP = """
insert into shops (slug, name, timezone, currency) values (%(slug)s, %(slug)s, 'UTC', 'CAD') returning id
"""
_CONFIG = """
insert into shop_config (shop_id, settings)
values (%(id)s, '{"backfill": {"catalogue_read_at": "2026-11-20T00:00:00Z"}}')
"""
_TOKEN = "insert into shop_secrets (shop_id, name, sealed) values (%(id)s, 'shopify-token', 'x')"
_WORK = """
insert into work_queue (shop_id, queue, topic, status, locked_at)
values (%(id)s, 'webhooks', 'order_ingest', %(status)s, %(locked_at)s)
"""
_BROKEN = """
insert into connections (shop_id, provider, status, code, since, updated_at)
values (%(id)s, 'stripe', 'broken', 'stripe.key_refused', now(), now())
"""
_RUN = """
insert into job_runs (job, shop_id, period, due_at, ended_at, status, origin)
values ('daily-reconciliation', %(id)s, %(period)s, %(due_at)s, %(due_at)s, %(status)s, 'beat')
"""
_COUNT = """
insert into request_counts (minute, shop, provider, outcome, route, status, count)
values (date_trunc('minute', %(at)s::timestamptz), %(shop)s, 'shopify', %(outcome)s,
        '/webhooks/shopify', 200, 1)
"""


def add(engine: Engine, slug: str, *, is_connected: bool = True) -> int:
    with transaction(engine) as tx:
        shop_id = int(tx.exec_driver_sql(_SHOP, {"slug": slug}).scalar_one())
        if is_connected:
            tx.exec_driver_sql(_CONFIG, {"id": shop_id})
            tx.exec_driver_sql(_TOKEN, {"id": shop_id})
    return shop_id


def execute(engine: Engine, statement: str, **values: Any) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql(statement, values)


@pytest.fixture
def fleet(engine: Engine) -> Engine:
    add(engine, "fine")
    add(engine, "new", is_connected=False)
    ids = {slug: add(engine, slug) for slug in ("retries", "dead", "unreconciled", "refused")}
    for status, locked_at in (("pending", None), ("pending", NOW), ("error", None)):
        execute(engine, _WORK, id=ids["retries"], status=status, locked_at=locked_at)
    for status in ("dead", "dead", "discarded", "done"):
        execute(engine, _WORK, id=ids["dead"], status=status, locked_at=None)
    for days, status in ((2, "done"), (1, "failed")):
        at = NOW - timedelta(days=days)
        execute(engine, _RUN, id=ids["unreconciled"], period=f"{at:%Y-%m-%d}", due_at=at, status=status)
    execute(engine, _BROKEN, id=ids["refused"])
    for minutes, outcome in ((90, "accepted"), (4, "duplicate"), (1, "invalid_signature")):
        execute(engine, _COUNT, at=NOW - timedelta(minutes=minutes), shop="fine", outcome=outcome)
    return engine


def overview(*arguments: str) -> list[dict[str, Any]]:
    done = run("overview", "--json", *arguments)
    assert done.exit_code == 0, done.output
    return list(json.loads(done.output))


def test_worst_shop_is_first(fleet: Engine) -> None:
    lines = overview()

    assert [(line["shop"], line["state"]) for line in lines] == [
        ("refused", "broken"), ("dead", "failing"), ("unreconciled", "failing"), ("retries", "retrying"),
        ("new", "incomplete"), ("fine", "ok"),
    ]  # fmt: skip
    by_shop = {line["shop"]: line for line in lines}
    assert by_shop["refused"]["broken"] == "stripe: stripe.key_refused"
    assert [by_shop["retries"][name] for name in ("waiting", "error", "dead")] == [2, 1, 0]
    assert by_shop["dead"]["dead"] == 2
    assert by_shop["unreconciled"]["reconciliation"] == "failed"
    assert by_shop["unreconciled"]["reconciled_day"] == f"{NOW - timedelta(days=1):%Y-%m-%d}"


def test_last_webhook_is_the_newest_accepted_one(fleet: Engine) -> None:
    (fine,) = (line for line in overview() if line["shop"] == "fine")

    assert fine["webhook_at"].startswith(f"{NOW - timedelta(minutes=4):%Y-%m-%dT%H:%M}")
    shown = {line.split()[0]: line for line in run("overview").output.splitlines() if line.strip()}
    assert " min " in shown["fine"]
    assert "none in 7 d" in shown["dead"]
    assert "none in 7 d" in shown["new"]


def test_every_state_but_ok_has_its_reason(fleet: Engine) -> None:
    execute(fleet, "delete from shop_config where shop_id = %(id)s", id=add(fleet, "unread"))

    assert {line["shop"]: line["why"] for line in overview()} == {
        "refused": "stripe: stripe.key_refused",
        "dead": "2 dead",
        "unreconciled": f"reconciliation of {NOW - timedelta(days=1):%Y-%m-%d} failed",
        "retries": "1 failed, to be tried again",
        "new": "no shopify-token",
        "unread": "its catalogue is not read yet",
        "fine": "",
    }


def test_a_shop_with_an_open_p1_or_p2_is_not_ok(fleet: Engine) -> None:
    ids = {slug: add(fleet, slug) for slug in ("p1", "p2", "p3", "resolved")}
    found = [
        Incident(ids["p1"], "audit_chain_failed", "2026-11-20", "P1", "x"),
        Incident(ids["p2"], "mails_refused", "2026-11-20", "P2", "x"),
        Incident(ids["p2"], "signature_failures:stripe", "2026-11-20", "P2", "x"),
        Incident(ids["p2"], "secret_old:stripe-key", "2026-11-20", "P3", "x"),
        Incident(ids["p3"], "secret_old:stripe-key", "2026-11-20", "P3", "x"),
        Incident(ids["resolved"], "mails_refused", "2026-11-20", "P2", "x"),
    ]
    with transaction(fleet) as tx:
        record_incidents(tx, found, NOW)
        resolve_incident(tx, ids["resolved"], "mails_refused", None, NOW, "Over.")

    lines = {line["shop"]: line for line in overview()}

    assert {slug: (lines[slug]["state"], lines[slug]["why"], lines[slug]["incidents"]) for slug in ids} == {
        "p1": ("failing", "1 incident (P1): audit_chain_failed", {"P1": 1}),
        "p2": ("incident", "2 incidents (P2): mails_refused, signature_failures", {"P2": 2, "P3": 1}),
        "p3": ("ok", "", {"P3": 1}),
        "resolved": ("ok", "", {}),
    }
    shown = {line.split()[0]: line for line in run("overview").output.splitlines() if line.strip()}
    assert "2 P2, 1 P3" in shown["p2"]
    assert [line["shop"] for line in overview("--state", "incident")] == ["p2"]


def test_a_shop_whose_ai_costs_have_reached_the_cap_is_not_ok(fleet: Engine) -> None:
    capped = add(fleet, "capped")
    execute(fleet, "update shop_config set ai_cap = '50.00 CAD' where shop_id = %(id)s", id=capped)
    with transaction(fleet) as tx:
        record_cost(tx, Cost(capped, AI, "openai", "1", "50.12", "CAD"), now=NOW)

    (line,) = overview("--state", "ai_at_cap")

    assert (line["shop"], line["why"]) == ("capped", "AI costs 50.12 CAD, cap 50.00 CAD")


def test_states_can_be_chosen(fleet: Engine) -> None:
    assert [line["shop"] for line in overview("--state", "broken,retrying")] == ["refused", "retries"]

    refused = run("overview", "--state", "bad")

    assert refused.exit_code == 2
    assert "'bad' should be one of broken, failing, ai_at_cap, incident, retrying" in refused.output


def test_number_of_queries_and_read_rows_does_not_grow_with_the_shops(fleet: Engine) -> None:
    for number in range(50):
        add(fleet, f"more-{number}")
    statements: list[str] = []

    def count(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(fleet, "before_cursor_execute", count)
    try:
        with transaction(fleet) as tx:
            lines = read_shop_overview(tx, NOW, most=1).lines
    finally:
        event.remove(fleet, "before_cursor_execute", count)

    assert len(lines) == 56
    assert len(statements) == 5
    (fine,) = (line for line in lines if line.shop == "fine")
    assert fine.webhook_at is not None
    assert fine.webhooks_since == fine.webhook_at  # older rows were not read
    assert shop_overview.MAX_ROWS > 1


def test_ignored_webhooks_of_a_removed_shop_are_named_below_the_table(fleet: Engine) -> None:
    for minutes in (3, 2):
        execute(fleet, _COUNT, at=NOW - timedelta(minutes=minutes), shop="gone", outcome="ignored")

    shown = run("overview")

    assert "gone was removed, but 2 webhooks of it came in 7 d and were ignored" in shown.stderr
    assert "gone" not in shown.stdout


def test_fleet_without_shops_says_what_to_do(engine: Engine) -> None:
    assert "fleet shops import" in run("overview").output
