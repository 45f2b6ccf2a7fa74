"""``fleet overview``: one line a shop, the worst first, from a fixed number of bounded queries."""

import json
import re
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, event

from services.accounts.roles import Role
from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.console.scan_facts import STATES
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs import shop_overview
from services.jobs.shop_overview import read_shop_overview
from tests.cli.commands import run
from tests.console.fleet_of_shops import add_fine_shops, add_signals
from tests.console.people import make_console, sign_in_as

pytestmark = pytest.mark.usefixtures("now")
NOW = utc_now()

_RUN = """
insert into job_runs (job, shop_id, period, due_at, ended_at, status, origin)
values ('daily-reconciliation', %(id)s, %(period)s, %(due_at)s, %(due_at)s, %(status)s, 'beat')
"""
_COUNT = """
insert into request_counts (minute, shop, provider, outcome, route, status, count)
values (date_trunc('minute', %(at)s::timestamptz), %(shop)s, 'shopify', %(outcome)s,
        '/webhooks/shopify', 200, 1)
"""


def execute(engine: Engine, statement: str, **values: Any) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql(statement, values)


_CHANGES = {
    "work": "insert into work_queue (shop_id, queue, topic, status) "
    "select %(id)s, 'webhooks', 'order_ingest', unnest(array['dead', 'dead', 'discarded', 'done'])",
    "refused": "update connections set status = 'broken', code = 'shopify.refused' where shop_id = %(id)s",
    "at-cap": "with cap as (update shop_config set ai_cap = '50.00 CAD' where shop_id = %(id)s) "
    "insert into metered_costs (shop_id, kind, day, source, currency, amount_micros) "
    "values (%(id)s, 'ai', (now() at time zone 'America/Toronto')::date, 'openai', 'CAD', 50120000)",
    "p1": "insert into incidents (shop_id, rule, period, severity, summary, opened_at, updated_at) "
    "values (%(id)s, 'mails_refused', 'x', 'P1', 'mails are refused', now(), now())",
    "no-night": "update shop_config set last_daily_run = null where shop_id = %(id)s",
    "unread": "update shop_config set settings = '{}' where shop_id = %(id)s",
    "no-token": "delete from shop_secrets where shop_id = %(id)s",
    "5xx": "update shop_config set last_daily_run = jsonb_set(last_daily_run, '{requests,failed}', '3') "
    "where shop_id = %(id)s",
    "retries": "insert into work_queue (shop_id, queue, topic, status, locked_at) "
    "select %(id)s, 'webhooks', 'order_ingest', * from (values ('pending', null), ('pending', now()), "
    "('error', null)) rows",
    "fine": "select %(id)s",
}
"""By slug, what makes a shop as it is."""


@pytest.fixture
def ids(engine: Engine) -> dict[str, int]:
    with transaction(engine) as tx:
        add_signals(tx, utc_now())
        found = dict(zip(_CHANGES, add_fine_shops(tx, *_CHANGES, now=utc_now()), strict=True))
    for slug, statement in _CHANGES.items():
        execute(engine, statement, id=found[slug])
    for minutes, outcome in ((90, "accepted"), (4, "duplicate"), (1, "invalid_signature")):
        execute(engine, _COUNT, at=NOW - timedelta(minutes=minutes), shop="fine", outcome=outcome)
    return found


def overview(*arguments: str) -> list[dict[str, Any]]:
    done = run("overview", "--json", *arguments)
    assert done.exit_code == 0, done.output
    return list(json.loads(done.output))


def find_causes(*arguments: str) -> dict[str, tuple[str, str]]:
    return {line["shop"]: (line["state"], line["why"]) for line in overview(*arguments)}


def test_every_shop_has_its_state_and_its_reason(ids: dict[str, int]) -> None:
    yesterday = f"{NOW.astimezone(ZoneInfo('America/Toronto')).date() - timedelta(days=1)}"
    missing = f"no run of {yesterday}"

    assert find_causes() == {
        "work": ("red", "Dead work: 2"),
        "refused": ("red", "Connections: shopify: shopify.refused"),
        "at-cap": ("red", "AI: 100% of 50.00 CAD"),
        "p1": ("red", "Incidents: 1 P1"),
        "no-night": (
            "unknown",
            f"5xx yesterday: {missing}; Reconciliation: {missing}; Audit chain: {missing}",
        ),
        "unread": ("warn", "Connections: catalogue not read yet"),
        "no-token": ("warn", "Connections: no Shopify token"),
        "5xx": ("warn", "5xx yesterday: 3 of 1,204 (0.25%)"),
        "retries": ("fine", ""),
        "fine": ("fine", ""),
    }


def test_the_first_page_of_the_console_has_the_same_states_in_the_same_order(
    engine: Engine, ids: dict[str, int]
) -> None:
    page = sign_in_as(make_console(engine), Role.VIEWER).get("/").text

    shown = re.findall(r'<tr class="(\w+)"><th scope="row"><a href="/shops/([^"]+)">', page)
    assert shown == [(line["state"], line["shop"]) for line in overview()]
    assert {state for state, _ in shown} == set(STATES)


def test_each_shop_has_its_figures(engine: Engine, ids: dict[str, int]) -> None:
    for days, status in ((2, "done"), (1, "failed")):
        at = NOW - timedelta(days=days)
        execute(engine, _RUN, id=ids["fine"], period=f"{at:%Y-%m-%d}", due_at=at, status=status)

    lines = {line["shop"]: line for line in overview()}

    assert [lines["retries"][name] for name in ("waiting", "error", "dead")] == [2, 1, 0]
    assert lines["work"]["dead"] == 2
    assert lines["fine"]["reconciliation"] == "failed"
    assert lines["fine"]["reconciled_day"] == f"{NOW - timedelta(days=1):%Y-%m-%d}"
    assert lines["fine"]["state"] == "red"


def test_last_webhook_is_the_newest_accepted_one(ids: dict[str, int]) -> None:
    (fine,) = (line for line in overview() if line["shop"] == "fine")

    assert fine["webhook_at"].startswith(f"{NOW - timedelta(minutes=4):%Y-%m-%dT%H:%M}")
    shown = {line.split()[0]: line for line in run("overview").output.splitlines() if line.strip()}
    assert " min " in shown["fine"]
    assert "none in 7 d" in shown["refused"]


def test_incidents_are_counted_by_severity_and_resolved_ones_are_not(
    engine: Engine, ids: dict[str, int]
) -> None:
    found = [
        Incident(ids["fine"], "signature_failures:stripe", "2026-11-20", "P2", "x"),
        Incident(ids["fine"], "secret_old:stripe-key", "2026-11-20", "P3", "x"),
        Incident(ids["retries"], "mails_refused", "2026-11-20", "P2", "x"),
    ]
    with transaction(engine) as tx:
        record_incidents(tx, found, NOW)
        resolve_incident(tx, ids["retries"], "mails_refused", None, NOW, "Over.")

    lines = {line["shop"]: line for line in overview()}

    assert lines["fine"]["incidents"] == {"P2": 1, "P3": 1}
    assert lines["retries"]["incidents"] == {}
    shown = {line.split()[0]: line for line in run("overview").output.splitlines() if line.strip()}
    assert "1 P2, 1 P3" in shown["fine"]


def test_states_can_be_chosen(ids: dict[str, int]) -> None:
    assert {state for state, _ in find_causes("--state", "unknown,warn").values()} == {"unknown", "warn"}

    refused = run("overview", "--state", "bad")

    assert refused.exit_code == 2
    assert "'bad' should be one of red, unknown, warn, fine" in refused.output


def test_number_of_queries_and_read_rows_does_not_grow_with_the_shops(
    engine: Engine, ids: dict[str, int]
) -> None:
    with transaction(engine) as tx:
        add_fine_shops(tx, *(f"more-{number}" for number in range(50)), now=NOW)
    statements: list[str] = []

    def count(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(engine, "before_cursor_execute", count)
    try:
        with transaction(engine) as tx:
            figures = read_shop_overview(tx, NOW, most=1).figures
    finally:
        event.remove(engine, "before_cursor_execute", count)

    assert len(figures) == len(_CHANGES) + 50
    assert len(statements) == 4
    fine = figures[ids["fine"]]
    assert fine.webhook_at is not None
    assert fine.webhooks_since == fine.webhook_at  # older rows were not read
    assert shop_overview.MAX_ROWS > 1


def test_ignored_webhooks_of_a_removed_shop_are_named_below_the_table(
    engine: Engine, ids: dict[str, int]
) -> None:
    for minutes in (3, 2):
        execute(engine, _COUNT, at=NOW - timedelta(minutes=minutes), shop="gone", outcome="ignored")

    shown = run("overview")

    assert "gone was removed, but 2 webhooks were received in 7 d and ignored" in shown.stderr
    assert "gone" not in shown.stdout


def test_fleet_without_shops_says_what_to_do(engine: Engine) -> None:
    assert "fleet shops import" in run("overview").output
