"""Each column of a shop's tables is read back by its name."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, select

from services.core.crypto import get_sealer
from services.shops.connections import list_connections, record_connection_broken, record_connection_ok
from services.shops.mail_transport import MailChoice, find_mail_choices, record_mail_choice
from services.shops.secrets import find_secrets, list_secret_states, list_webhook_keys, record_secret
from services.shops.shops import add_shop, get_shop, get_shop_by_id, list_shops, set_shop
from services.shops.staff import find_staff, record_staff
from services.shops.tables import connections, shop_config, shop_secrets

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
FIELDS: dict[str, Any] = {
    "slug": "harbour",
    "name": "Harbour Coffee",
    "timezone": "America/Vancouver",
    "currency": "CAD",
    "owner_email": "owner@example.com",
    "accountant_email": "books@example.com",
    "shopify_domain": "harbour.myshopify.com",
    "stock_location_id": "4711",
    "stock_owner": "shopfleet",
}


def test_shop_and_its_settings(tx: Connection) -> None:
    added = add_shop(tx, **FIELDS, now=NOW)
    others = {**FIELDS, "name": "Other", "owner_email": "other@example.com", "stock_location_id": "12"}
    del others["slug"]

    for shop in (added, get_shop(tx, "harbour"), get_shop_by_id(tx, added.id), *list_shops(tx)):
        assert {name: getattr(shop, name) for name in FIELDS} == FIELDS
        assert (shop.id, shop.created_at, shop.former_shopify_domains) == (added.id, NOW, ())
    changed = set_shop(tx, "harbour", others | {"shopify_domain": "new.myshopify.com"}, now=LATER)
    others["shopify_domain"] = "new.myshopify.com"
    assert {name: getattr(changed, name) for name in others} == others
    assert changed.former_shopify_domains == (FIELDS["shopify_domain"],)


def test_settings_of_mail_and_staff_do_not_touch_each_other(tx: Connection) -> None:
    shop = add_shop(tx, **FIELDS, now=NOW)
    choice = MailChoice(
        transport="graph",
        sender="mail@harbour.example",
        tenant_id="harbour.example",
        client_id="0f3c9b8a-7d6e-5f4c-3b2a-1908f7e6d5c4",
        mailbox="box@harbour.example",
    )

    assert record_mail_choice(tx, shop, choice, now=NOW)
    assert record_staff(tx, "harbour", {"4711": "Dana"}, NOW, by="ada", request_id="r") == {"4711": "Dana"}

    assert find_mail_choices(tx, [shop.id]) == {shop.id: choice}
    assert find_staff(tx, "harbour") == {"4711": "Dana"}
    settings = tx.execute(shop_config.select()).mappings().one()["settings"]
    assert settings == {"mail": choice.document, "staff": {"4711": "Dana"}}


def test_secrets_of_one_name_and_of_two_shops(tx: Connection) -> None:
    first = add_shop(tx, **FIELDS, now=NOW).id
    second = add_shop(tx, **FIELDS | {"slug": "west", "shopify_domain": "west.myshopify.com"}, now=NOW).id
    record_secret(tx, first, "shopify-webhook", "old", NOW)
    record_secret(tx, first, "shopify-webhook", "new", LATER, timedelta(days=3650))
    record_secret(tx, second, "stripe-key", "sk_test_1", NOW)

    pairs = [(first, "shopify-webhook"), (second, "stripe-key"), (second, "shopify-webhook")]
    assert find_secrets(tx, pairs) == {pairs[0]: "new", pairs[1]: "sk_test_1"}
    (key,) = list_webhook_keys(tx)
    assert (key.slug, key.shop_id, key.name) == ("harbour", first, "shopify-webhook")
    assert (key.values, key.expires) == (("new", "old"), (None, LATER + timedelta(days=3650)))
    (state,) = list_secret_states(tx, first, LATER)
    assert (state.name, state.recorded_at, state.previous_until) == (
        "shopify-webhook",
        LATER,
        LATER + timedelta(days=3650),
    )
    stored = tx.execute(select(shop_secrets).where(shop_secrets.c.shop_id == second)).one()
    assert get_sealer().open(bytes(stored.sealed), f"shop/{second}/{stored.name}") == b"sk_test_1"


def test_connection_that_broke_and_works_again(tx: Connection) -> None:
    shop_id = add_shop(tx, **FIELDS, now=NOW).id
    record_secret(tx, shop_id, "shopify-token", "shpat_1", NOW)
    tx.execute(
        insert(connections).values(
            shop_id=None, provider="smtp", status="ok", since=NOW, updated_at=LATER, code="", detail=""
        )
    )
    record_connection_broken(tx, shop_id, "shopify", "a.code", "a detail", LATER, resource="a resource")

    fleet, own = list_connections(tx)
    assert (fleet.shop_id, fleet.provider, fleet.status) == (None, "smtp", "ok")
    assert (fleet.since, fleet.updated_at) == (NOW, LATER)
    assert own._asdict() == {
        "shop_id": shop_id,
        "provider": "shopify",
        "status": "broken",
        "code": "a.code",
        "detail": "a detail",
        "since": LATER,
        "updated_at": LATER,
        "resource": "a resource",
    }
    record_connection_ok(tx, shop_id, "shopify", NOW)
    own = list_connections(tx)[1]
    assert (own.status, own.code, own.detail, own.resource, own.since) == ("ok", "", "", "", NOW)
