"""``fleet shops set --shopify-domain``, checked at Shopify."""

import json

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from services.cli.main import main
from services.core.db import transaction
from services.core.settings import get_settings
from tests.shopify.backfill.fake_shop import DOMAIN, TOKEN, Shops, control


def fleet(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["shops", *arguments])


def domains(shops: Shops) -> list[tuple[str, list[str]]]:
    query = "select shopify_domain, former_shopify_domains from shop_config where shop_id = :shop"
    with transaction(shops.engine) as tx:
        return [tuple(row) for row in tx.execute(text(query), {"shop": shops.holed})]


def test_domain_that_shopify_confirms_is_set_and_the_one_before_it_stays_valid(shops: Shops) -> None:
    control(shops.url, shop="new.myshopify.com", token=TOKEN)

    result = fleet("set", "holed", "--shopify-domain", "New.MyShopify.com")

    assert result.exit_code == 0, result.output
    assert "not checked" not in result.output
    assert domains(shops) == [("new.myshopify.com", [DOMAIN])]
    shown = json.loads(fleet("show", "holed", "--json").output)
    assert shown["former_shopify_domains"] == [DOMAIN]
    assert DOMAIN in fleet("show", "holed").output

    assert fleet("set", "holed", f"shopify-domain={DOMAIN}").exit_code == 0
    assert domains(shops) == [(DOMAIN, ["new.myshopify.com"])]


def test_domain_that_shopify_names_differently_is_refused_with_both_names(shops: Shops) -> None:
    body = {"id": 1, "myshopify_domain": "harbour.myshopify.com", "updated_at": "2026-11-20T12:00:00Z"}
    control(
        shops.url, shop="old-name.myshopify.com", token=TOKEN,
        webhooks=[{"topic": "shop/update", "body": body}],
    )  # fmt: skip

    result = fleet("set", "holed", "--shopify-domain", "old-name.myshopify.com")

    assert result.exit_code == 2
    assert "'old-name.myshopify.com'" in result.output
    assert "'harbour.myshopify.com'" in result.output
    assert domains(shops) == [(DOMAIN, [])]


@pytest.mark.parametrize("domain", ["acme.example", "https://acme.myshopify.com", "a.b.myshopify.com"])
def test_domain_of_another_form_is_refused_with_the_right_one(shops: Shops, domain: str) -> None:
    result = fleet("set", "holed", "--shopify-domain", domain)

    assert result.exit_code == 2
    assert repr(domain) in result.output
    assert "harbour.myshopify.com" in result.output
    assert domains(shops) == [(DOMAIN, [])]


def test_unreachable_shopify_is_reported_and_the_domain_is_set(
    shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPIFY_API_BASE", "http://127.0.0.1:1")
    get_settings.cache_clear()

    result = fleet("set", "holed", "--shopify-domain", "new.myshopify.com")

    assert result.exit_code == 0, result.output
    assert "new.myshopify.com was not checked: could not connect" in result.output
    assert domains(shops) == [("new.myshopify.com", [DOMAIN])]


def test_refused_token_is_reported_and_breaks_no_connection(shops: Shops) -> None:
    control(shops.url, shop="new.myshopify.com", token="shpat_" + "ff" * 16)

    result = fleet("set", "holed", "--shopify-domain", "new.myshopify.com")

    assert "was not checked: HTTP 401: the shop refuses the access token" in result.output
    with transaction(shops.engine) as tx:
        assert tx.execute(text("select * from connections")).all() == []


def test_shop_without_a_token_is_set_unchecked(shops: Shops) -> None:
    result = fleet("set", "whole", "--shopify-domain", "whole.myshopify.com")

    assert result.exit_code == 0
    assert "whole has no shopify-token" in result.output
