"""``/platform/health`` and ``/shops/<shop>``: what each shows, to whom, and by which queries."""

import re
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from beat_schedule import JOBS
from services.accounts.roles import Role
from services.alerts.incidents import Incident, record_incidents
from services.console.auth import CHANGE_ROUTES, PAGE_ROUTES
from services.console.connection_lines import classify_connection, find_secret_provider
from services.core.clock import utc_now
from services.core.db import transaction
from services.shops.connections import record_connection_broken, record_connection_ok
from services.shops.secrets import record_secret
from services.shops.shops import set_shop
from tests.console.people import make_console, sign_in_as
from tests.console.test_access import fill

pytestmark = pytest.mark.usefixtures("now")
NOW = utc_now()


class Connected:
    """A row of ``connections`` that is accepted."""

    status, code = "ok", ""

    def __init__(self, days: float | None = None) -> None:
        self.ends_at = None if days is None else NOW + timedelta(days=days)


@pytest.mark.parametrize(
    ("row", "state", "text"),
    [
        (Connected(), "fine", "accepted"),
        (Connected(days=15), "fine", "accepted"),
        (Connected(days=9.5), "warn", "accepted, ends in 9 days"),
        (Connected(days=-1), "warn", "accepted, past its end"),
        (None, "unknown", "not connected"),
    ],
)
def test_a_connection_has_a_state_and_the_cause(row: Any, state: str, text: str) -> None:
    assert classify_connection(row, [], NOW) == (state, text)


@pytest.mark.parametrize(
    ("secret", "provider"),
    [
        ("shopify-token", "shopify"),
        ("stripe-webhook", "stripe"),
        ("standard-webhook:acme", "standard"),
        ("resend-key", "resend"),
        ("of-a-later-version", "of-a-later-version"),
    ],
)
def test_a_secret_belongs_to_its_provider(secret: str, provider: str) -> None:
    assert find_secret_provider(secret) == provider


def test_health_lists_the_fleet_first_then_the_worst(
    engine: Engine, client: FlaskClient, ids: list[int]
) -> None:
    with engine.begin() as tx:
        record_connection_ok(tx, None, "resend", NOW)
        record_connection_broken(tx, ids[1], "stripe", "stripe.key_refused", "", NOW - timedelta(hours=5))
        record_secret(tx, ids[0], "stripe-webhook", "whsec_" + "a" * 32, NOW - timedelta(days=12))

    page = client.get("/platform/health").text

    shown = re.findall(r'<th scope="row">(?:<a[^>]*>)?(\w+).*?data-label="Provider">(\w+)<', page, re.DOTALL)
    assert shown == [
        ("Fleet", "resend"), ("orchard", "stripe"), ("harbour", "shopify"), ("harbour", "stripe"),
        ("orchard", "shopify"),
    ]  # fmt: skip
    assert "refused: stripe.key_refused" in page
    assert ">5 h</time>" in page
    assert ">12 d</time>" in page
    assert "sends webhooks only" in page
    assert "whsec_" not in page
    assert "<title>(1) Connections" in page
    assert client.get("/platform/health?state=red").text.count('<th scope="row">') == 1
    assert client.get("/platform/health?q=resend").text.count('<th scope="row">') == 1


def test_health_shows_a_person_of_one_shop_its_lines_alone(engine: Engine, ids: list[int]) -> None:
    with engine.begin() as tx:
        record_connection_ok(tx, None, "resend", NOW)
    person = sign_in_as(make_console(engine), Role.VIEWER, shops={ids[0]: Role.VIEWER})

    page = person.get("/platform/health").text

    assert "harbour" in page
    assert "orchard" not in page
    assert "resend" not in page


def test_the_page_of_a_shop_has_its_facts_and_no_secret(
    engine: Engine, client: FlaskClient, ids: list[int]
) -> None:
    with transaction() as tx:
        set_shop(tx, "harbour", {"ai_cap": "50.00 CAD"}, by="t", now=NOW)
        record_secret(tx, ids[0], "stripe-webhook", "whsec_" + "a" * 32, NOW)
        record_incidents(tx, [Incident(ids[0], "stock_oversold", "x", "P2", "oversold MUG")], NOW)
    with engine.begin() as tx:
        tx.exec_driver_sql(
            "insert into orders (shop_id, order_gid, name, currency, financial_status, total_cents,"
            " refunded_cents, placed_at, updated_at) values (%(id)s, 'gid://1', '#1', 'CAD', 'paid', 12300,"
            " 300, %(now)s, %(now)s)",
            {"id": ids[0], "now": NOW},
        )
        tx.exec_driver_sql(
            "insert into mail_outbox (shop_id, dedupe_key, kind, period, recipient, subject, text, html)"
            " values (%(id)s, 'k', 'digest', '', 'ada@example.com', 'Your week', 'Ada', 'Ada')",
            {"id": ids[0]},
        )

    page = client.get("/shops/harbour").text

    for text in (
        "Harbour", "America/Toronto", "oversold MUG", "120.00 CAD",
        "50.00 CAD", "stripe-webhook", "Your week",
        "At 00:00 every day", "1,204, 0 with 5xx",
    ):  # fmt: skip
        assert text in page, text
    assert "whsec_" not in page
    assert "icon-red.svg" in page


def test_the_page_of_a_new_shop_says_what_is_missing(engine: Engine, client: FlaskClient) -> None:
    with engine.begin() as tx:
        tx.exec_driver_sql(
            "insert into shops (slug, name, timezone, currency) values ('new','New','UTC','CAD')"
        )

    page = client.get("/shops/new").text

    for text in (
        "No incident is open",
        "No night is closed yet",
        "No provider was called yet",
        "No mail yet",
    ):
        assert text in page


def test_the_last_use_of_a_secret_and_of_the_one_that_it_replaced_are_shown(
    engine: Engine, client: FlaskClient, ids: list[int]
) -> None:
    with engine.begin() as tx:
        for value in "ab":
            record_secret(tx, ids[0], "stripe-webhook", "whsec_" + value * 32, utc_now(), timedelta(hours=9))
        tx.exec_driver_sql(
            "update shop_secrets set last_used_at = now() - interval '5 minutes' where expires_at is not null"
        )

    for path in ("/shops/harbour", "/platform/health"):
        text = " ".join(re.sub(r"<[^>]+>", " ", client.get(path).text).split())
        found = re.search(r"stripe-webhook \w+ (?:s )?,? ?never used (.+?), used 5 min ago", text)
        assert found, text
        assert "never" not in found[1]


def test_a_schedule_and_a_last_run_lead_to_the_job_at_the_shop(
    engine: Engine, client: FlaskClient, ids: list[int]
) -> None:
    with engine.begin() as tx:
        tx.exec_driver_sql(
            "insert into job_runs (job, shop_id, period, due_at, ended_at, status, origin) values"
            " ('daily-reconciliation', %(id)s, '2026-01-01', now(), now(), 'done', 'beat')",
            {"id": ids[0]},
        )

    pages = [client.get(path).text for path in ("/shops/harbour", "/platform/health")]

    for page in pages:
        assert 'href="/jobs/daily-reconciliation?shop=harbour"' in page
    schedules = re.findall(r'<th scope="row"><a href="/jobs/([^"?]+)\?shop=harbour">', pages[0])
    assert set(schedules) == {job.name for job in JOBS if job.per_shop}
    for path in set(re.findall(r'href="(/jobs/[^"]+)"', "".join(pages))):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "harbour" in answer.text


def test_every_page_of_a_shop_is_missing_for_people_of_another_one(engine: Engine, ids: list[int]) -> None:
    other = sign_in_as(make_console(engine), Role.OWNER, shops={ids[1]: Role.OWNER})
    unknown = sign_in_as(make_console(engine), Role.VIEWER)
    rules = [rule for rule in other.application.url_map.iter_rules() if "slug" in rule.arguments]
    rules = [
        rule for rule in rules if rule.endpoint in {*PAGE_ROUTES, *CHANGE_ROUTES} and "GET" in rule.methods
    ]

    assert rules
    for rule in rules:
        hidden = other.get(fill(rule))
        missing = unknown.get(fill(rule).replace("harbour", "nowhere"))
        assert (hidden.status_code, missing.status_code) == (404, 404), rule.rule
        assert "There is no such shop" in hidden.text
        assert "orchard" not in hidden.text


def test_the_list_of_shops_is_the_morning_scan(client: FlaskClient) -> None:
    assert client.get("/shops").location == "/"
