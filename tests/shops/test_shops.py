"""A shop is added and changed with every fault named at once, and each change audited."""

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, Engine, text

from services.core.db import transaction
from services.privacy.shop_removal import mark_removed
from services.shops.shops import ShopInvalid, ShopUnknown, add_shop, get_shop, list_shops, set_shop
from tests.fleet.waiting import wait_for

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HARBOUR = {
    "slug": "harbour",
    "name": "Harbour & Söhne",
    "timezone": "America/Los_Angeles",
    "currency": "CAD",
    "owner_email": "owner@harbour.example",
    "accountant_email": "books@harbour.example",
    "shopify_domain": "harbour.myshopify.com",
}


def test_added_shop_is_found_with_its_settings(tx: Connection) -> None:
    added = add_shop(tx, **HARBOUR, now=NOW)

    assert get_shop(tx, "harbour") == added
    assert [shop.slug for shop in list_shops(tx)] == ["harbour"]
    assert {field: getattr(added, field) for field in HARBOUR} == HARBOUR
    assert added.created_at == NOW
    assert str(added.zone) == "America/Los_Angeles"


def test_every_fault_is_named_at_once(tx: Connection) -> None:
    wrong = {
        "slug": "Harbour!",
        "name": " ",
        "timezone": "America",
        "currency": "cad",
        "owner_email": "nobody",
    }

    with pytest.raises(ShopInvalid) as refused:
        add_shop(tx, **HARBOUR | wrong, now=NOW)

    for field, value in wrong.items():
        assert f"{field}={value!r} should be" in str(refused.value)
    assert list_shops(tx) == []


@pytest.mark.parametrize("slug", ["", "a" * 41, "A", "a b", "a/b", "a\n", "ä"])
def test_slug_outside_its_alphabet_is_refused(tx: Connection, slug: str) -> None:
    with pytest.raises(ShopInvalid, match="slug="):
        add_shop(tx, **HARBOUR | {"slug": slug}, now=NOW)


@pytest.mark.parametrize("zone", ["", "Mars/Base", "../etc/passwd", "/etc/localtime", "America"])
def test_zone_that_is_no_iana_name_is_refused(tx: Connection, zone: str) -> None:
    with pytest.raises(ShopInvalid, match="timezone="):
        add_shop(tx, **HARBOUR | {"timezone": zone}, now=NOW)


def test_taken_slug_is_refused_and_the_shop_stays(tx: Connection) -> None:
    add_shop(tx, **HARBOUR, now=NOW)

    with pytest.raises(ShopInvalid, match="'harbour' is taken"):
        add_shop(tx, **HARBOUR | {"name": "Another"}, now=NOW)

    assert get_shop(tx, "harbour").name == "Harbour & Söhne"


def test_set_changes_only_what_is_named_and_audits_before_and_after(tx: Connection) -> None:
    add_shop(tx, **HARBOUR, now=NOW)

    changed = set_shop(
        tx, "harbour", {"currency": "USD", "owner_email": "", "name": HARBOUR["name"]}, now=NOW, by="ada"
    )

    assert (changed.currency, changed.owner_email, changed.timezone) == ("USD", "", "America/Los_Angeles")
    row = tx.execute(
        text(
            "select e.staff_label, e.shop_id, m.before, m.after from audit_events e "
            "join audit_mutations m on m.event_id = e.id where e.action = 'shop.set'"
        )
    ).one()
    assert (row.staff_label, row.shop_id) == ("ada", changed.id)
    assert row.before == {"currency": "CAD", "owner_email": "owner@harbour.example"}
    assert row.after == {"currency": "USD", "owner_email": ""}


def test_setting_what_is_already_so_audits_nothing(tx: Connection) -> None:
    add_shop(tx, **HARBOUR, now=NOW)
    before = tx.scalar(text("select count(*) from audit_events"))

    set_shop(tx, "harbour", {"currency": "CAD"}, now=NOW)

    assert tx.scalar(text("select count(*) from audit_events")) == before


@pytest.mark.parametrize(
    "domain",
    ["harbour.example", "myshopify.com", "-.myshopify.com", "a.myshopify.com.example", "a/b.myshopify.com"],
)
def test_shopify_domain_is_one_that_shopify_gives(tx: Connection, domain: str) -> None:
    with pytest.raises(ShopInvalid, match=r"shopify_domain=.* such as harbour\.myshopify\.com"):
        add_shop(tx, **HARBOUR | {"shopify_domain": domain}, now=NOW)


def test_a_shopify_domain_belongs_to_one_shop_that_is_not_removed(tx: Connection) -> None:
    add_shop(tx, **HARBOUR | {"shopify_domain": "harbour.myshopify.com"}, now=NOW)
    quay = HARBOUR | {"slug": "quay", "shopify_domain": "Harbour.myshopify.com"}
    taken = "shopify_domain='harbour.myshopify.com' is the store of the shop 'harbour'"

    with pytest.raises(ShopInvalid, match=taken):
        add_shop(tx, **quay, now=NOW)
    add_shop(tx, **quay | {"slug": "pier", "shopify_domain": ""}, now=NOW)
    with pytest.raises(ShopInvalid, match=taken):
        set_shop(tx, "pier", {"shopify_domain": "harbour.myshopify.com"}, now=NOW)

    mark_removed(tx, get_shop(tx, "harbour"), NOW, by="ada", request_id="")
    assert set_shop(tx, "pier", {"shopify_domain": "harbour.myshopify.com"}, now=NOW).slug == "pier"


@pytest.mark.parametrize("is_new", [True, False], ids=["add", "set"])
def test_of_two_commands_at_one_time_only_one_gets_a_shopify_domain(engine: Engine, *, is_new: bool) -> None:
    with transaction(engine) as tx:
        for slug in ("harbour", "quay"):
            add_shop(tx, **HARBOUR | {"slug": slug, "shopify_domain": ""}, now=NOW)
    faults: list[str] = []

    def take() -> None:
        try:
            with transaction(engine) as other:
                if is_new:
                    add_shop(other, **HARBOUR | {"slug": "pier"}, now=NOW)
                else:
                    set_shop(other, "quay", {"shopify_domain": "harbour.myshopify.com", "name": "Q"}, now=NOW)
        except ShopInvalid as fault:
            faults.append(str(fault))

    thread = threading.Thread(target=take)
    with transaction(engine) as tx:
        set_shop(tx, "harbour", {"shopify_domain": "harbour.myshopify.com"}, now=NOW)
        thread.start()
        wait_for(lambda: count_waiting(engine) == 1)
    thread.join()

    assert faults == ["shopify_domain='harbour.myshopify.com' is the store of the shop 'harbour'"]
    with transaction(engine) as tx:
        assert [shop.slug for shop in list_shops(tx)] == ["harbour", "quay"]
        assert get_shop(tx, "quay").name == HARBOUR["name"]


def count_waiting(engine: Engine) -> int:
    with transaction(engine) as tx:
        return int(tx.execute(text("select count(*) from pg_locks where not granted")).scalar_one())


def test_shopify_domain_is_stored_in_lower_case_and_its_former_ones_are_kept(tx: Connection) -> None:
    added = add_shop(tx, **HARBOUR | {"shopify_domain": " Harbour.MyShopify.com "}, now=NOW)
    assert (added.shopify_domain, added.former_shopify_domains) == ("harbour.myshopify.com", ())

    for domain in ("quay.myshopify.com", "", "Pier.myshopify.com", "quay.myshopify.com"):
        changed = set_shop(tx, "harbour", {"shopify_domain": domain}, now=NOW)

    assert changed.shopify_domain == "quay.myshopify.com"
    assert changed.former_shopify_domains == ("harbour.myshopify.com", "pier.myshopify.com")
    assert get_shop(tx, "harbour") == changed


def test_unknown_field_and_wrong_value_are_named(tx: Connection) -> None:
    add_shop(tx, **HARBOUR, now=NOW)

    with pytest.raises(
        ShopInvalid, match=r"'colour' should be one of name[^\n]*\n  currency='EURO' should be"
    ):
        set_shop(tx, "harbour", {"colour": "red", "currency": "EURO"}, now=NOW)


@pytest.mark.parametrize("field", ["owner_email", "accountant_email"])
def test_an_address_without_a_full_domain_is_refused(tx: Connection, field: str) -> None:
    add_shop(tx, **HARBOUR, now=NOW)

    with pytest.raises(ShopInvalid, match=f"{field}='a@b' should be one mail address"):
        set_shop(tx, "harbour", {field: "a@b"}, now=NOW)


@pytest.mark.parametrize("number", ["0", "007", "9" * 19, "-1", "1.0", "\u0663"])
def test_location_that_cannot_be_an_id_of_shopify_is_refused(tx: Connection, number: str) -> None:
    add_shop(tx, **HARBOUR, now=NOW)

    with pytest.raises(ShopInvalid, match=r"stock_location_id=.* should be the location's number at Shopify"):
        set_shop(tx, "harbour", {"stock_location_id": number}, now=NOW)


def test_shop_that_is_not_there_is_named(tx: Connection) -> None:
    with pytest.raises(ShopUnknown, match="no shop 'nowhere'"):
        get_shop(tx, "nowhere")
    with pytest.raises(ShopUnknown, match="no shop 'nowhere'"):
        set_shop(tx, "nowhere", {"currency": "CAD"}, now=NOW)


@pytest.mark.parametrize("currency", ["ZZZ", "XXX", "cad", "CADX", ""])
def test_currency_that_does_not_exist_is_refused(tx: Connection, currency: str) -> None:
    with pytest.raises(ShopInvalid, match="a currency of ISO 4217"):
        add_shop(tx, slug="acme", name="Acme", timezone="UTC", currency=currency, now=NOW)
