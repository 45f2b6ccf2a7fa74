"""The shop object of Shopify, and the app installed again."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.alerts.incidents import Incident, record_incidents
from services.core.db import transaction
from services.core.errors import Refused
from services.core.settings import Settings
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.entities import EPOCH
from services.shopify.shop_profile import ingest_storefronts
from services.shops.secrets import record_secret
from tests.shopify.sample_payloads import NOON, SHOP, add_shop, at, ingest, item, outcome_codes, rows

TOKEN = "shpat_" + "0" * 32


def shop_update(minutes: float = 0, **fields: Any) -> WorkItem:
    body = {"id": 2**53 + 9, "name": "Harbour", "currency": "CAD", "iana_timezone": "America/Los_Angeles",
            "country_code": "CA", "province_code": "BC", "plan_name": "basic",
            "myshopify_domain": "harbour.myshopify.com",
            "updated_at": at(minutes)}  # fmt: skip
    return item("storefront_ingest", body | fields, event_topic="shop/update")


def summaries(effects: HandlerResult) -> list[str]:
    """Return the audit's summaries in order."""
    return [mutation.summary for entry in effects.audit for mutation in entry.mutations]


def incidents(engine: Engine) -> list[Any]:
    """Return the incidents and whether they are open."""
    return rows(engine, "select rule, severity, status from incidents order by id")


@pytest.fixture
def shop(engine: Engine, settings: Settings) -> Engine:
    """A shop whose access token was recorded an hour before noon."""
    add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, SHOP, "shopify-token", TOKEN, NOON - timedelta(hours=1))
    return engine


def test_shop_has_the_state_of_its_newest_event(shop: Engine) -> None:
    effects = ingest(shop, ingest_storefronts, shop_update(5, plan_name="plus"), shop_update(1))

    assert outcome_codes(effects) == ["done", "stale"]
    assert rows(
        shop, "select shopify_id, name, currency, timezone, province, plan_name from storefronts"
    ) == [(2**53 + 9, "Harbour", "CAD", "America/Los_Angeles", "CA-BC", "plus")]
    assert incidents(shop) == []


def test_currency_and_zone_that_differ_are_incidents_until_they_agree(shop: Engine) -> None:
    ingest(shop, ingest_storefronts, shop_update(1, currency="USD", iana_timezone="America/Toronto"))

    assert incidents(shop) == [
        ("shopify_currency_differs", "P3", "open"),
        ("shopify_timezone_differs", "P3", "open"),
    ]
    (summary,) = rows(shop, "select summary from incidents order by id limit 1")[0]
    assert "the shop's currency is USD at Shopify and CAD here" in summary
    assert "`fleet shops set harbour currency=USD`" in summary
    assert rows(shop, "select currency, timezone from shops") == [("CAD", "America/Los_Angeles")]

    ingest(shop, ingest_storefronts, shop_update(2))
    assert {status for _, _, status in incidents(shop)} == {"resolved"}


def test_newer_event_of_an_uninstalled_shop_resolves_the_incident(shop: Engine) -> None:
    with transaction(shop) as tx:
        statement = "insert into storefronts (shop_id, uninstalled_at, updated_at) values (1, :at, :none)"
        tx.execute(text(statement), {"at": NOON, "none": EPOCH})
        record_incidents(tx, [Incident(SHOP, "shopify_uninstalled", "2026-11-20", "P2", "gone")], NOON)

    effects = ingest(shop, ingest_storefronts, shop_update(5))

    assert rows(shop, "select uninstalled_at from storefronts") == [(None,)]
    assert "our app installed again" in " ".join(summaries(effects))
    assert incidents(shop) == [("shopify_uninstalled", "P2", "resolved")]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"myshopify_domain": "pier.myshopify.com"}, "myshopify_domain is 'pier.myshopify.com'"),
        ({"id": 4711}, "id is 4711"),
    ],
)
def test_description_of_another_shop_is_refused(shop: Engine, fields: dict[str, Any], fault: str) -> None:
    ingest(shop, ingest_storefronts, shop_update(1))

    (outcome,) = ingest(shop, ingest_storefronts, shop_update(5, **fields)).outcomes

    assert isinstance(outcome, Refused)
    assert outcome.code == "shopify.wrong_body"
    assert fault in outcome.detail
    assert rows(shop, "select shopify_id, plan_name from storefronts") == [(2**53 + 9, "basic")]
