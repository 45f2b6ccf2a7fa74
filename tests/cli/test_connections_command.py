"""``fleet shops show`` and ``fleet doctor`` show a broken connection, its code and what to do."""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from services.cli.main import main
from services.core.db import transaction
from services.fleet.doctor import examine
from services.fleet.doctor_check import DoctorCheck
from services.mail.remedies import REMEDIES
from services.providers.notion import REFUSALS as NOTION_REFUSALS
from services.providers.quickbooks_time import MISCONFIGURED
from services.providers.quickbooks_time_oauth import QUICKBOOKS_TIME_TOKENS
from services.providers.shopify_oauth import SHOPIFY_TOKENS
from services.shops.connections import record_connection_broken, record_connection_ok
from tests.jobs.job_rows import add_shops

TOKEN_ENDPOINTS = (SHOPIFY_TOKENS, QUICKBOOKS_TIME_TOKENS)
RETRIED = {f"{kind.code}.{name}" for kind in TOKEN_ENDPOINTS for name in ("no_answer", "unavailable")}
ROOT = Path(__file__).parents[2]
SINCE = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
NEW_KEY = "fleet shops secret west stripe-key --stdin"


@pytest.fixture
def west(engine: Engine) -> Engine:
    """A shop whose Stripe key is refused."""
    add_shops(engine, SINCE, west="America/Los_Angeles")
    with transaction(engine) as tx:
        record_connection_broken(tx, 1, "stripe", "stripe.key_refused", "HTTP 401", SINCE)
        record_connection_ok(tx, 1, "shopify", SINCE)
    return engine


def checked(environment: dict[str, str]) -> list[DoctorCheck]:
    found = examine({**os.environ, **environment}, Path(environment["FLEET_HOME"]))
    return [finding for finding in found if finding.check == "connection"]


def test_the_shop_shows_since_when_and_what_to_do(west: Engine) -> None:
    shown = json.loads(CliRunner().invoke(main, ["shops", "show", "west", "--json"]).output)
    stripe = next(line for line in shown["connections"] if line["provider"] == "stripe")
    assert (stripe["status"], stripe["code"], stripe["since"]) == (
        "broken",
        "stripe.key_refused",
        "2026-11-21T09:00:00Z",
    )
    assert NEW_KEY in stripe["to_do"]
    assert "celery -A tasks requeue --shop west --status dead" in stripe["to_do"]


def test_doctor_shows_the_broken_connection_until_it_is_ok(west: Engine, environment: dict[str, str]) -> None:
    (broken,) = checked(environment)
    assert not broken.ok
    assert "stripe of west is broken since 2026-11-21" in broken.seen
    assert NEW_KEY in broken.remedy

    with transaction(west) as tx:
        record_connection_ok(tx, 1, "stripe", SINCE)
    assert [(found.ok, found.seen) for found in checked(environment)] == [
        (True, "2 in use, none refuses our credential")
    ]


def test_every_error_code_of_a_shops_provider_has_a_remedy() -> None:
    codes = set()
    for name in ("shopify_admin", "shopify_answers", "stripe_api", "twilio", "notion", "quo_api"):
        source = (ROOT / "services" / "providers" / f"{name}.py").read_text()
        codes |= set(re.findall(r'Misconfigured\(\s*"([\w.]+)"', source))
        codes |= set(re.findall(r'[:=] \("(shopify\.\w+)", "', source))
    codes |= {f"quickbooks_time.{name}" for name, _ in MISCONFIGURED.values()}
    codes |= {f"notion.{name}" for name, _ in NOTION_REFUSALS.values()}
    for path in ("providers/oauth.py", "shops/tokens.py"):
        source = (ROOT / "services" / path).read_text()
        names = re.findall(r'f"\{[\w.]*code\}\.(\w+)"', source)
        codes |= {f"{kind.code}.{name}" for kind in TOKEN_ENDPOINTS for name in names} - RETRIED
    assert len(codes) > 8
    assert codes - set(REMEDIES) == set()
