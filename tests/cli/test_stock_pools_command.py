"""``fleet stock pool|pools`` commands with the sandbox's Shopify."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.providers.shopify_admin import ShopLevelKey
from services.sandbox.serve import SandboxServer
from services.shopify.products.handler import ingest_products
from services.shopify.products.inventory_items import ingest_inventory_items
from services.shopify.shop_access import open_admin
from services.shopify.stock.handler import ingest_inventory_levels
from services.shops.secrets import record_secret
from tests.shopify.sample_payloads import LOCATION, add_shop, ingest, item, level, product, rows
from tests.shopify.test_push_journey import control, push

GOODS = "select sku, available from stock_pool_items order by sku"
LINKED = "select count(*) from inventory_levels where pool = 'mugs'"
PIECES = {"harbour": {"MUG": 10, "CUP": 4}, "linden": {"MUG": 7, "CUP": 4}}
NUMBERS = {"MUG": 1, "CUP": 2}


def fleet(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, [*arguments], input=typed)


def number(slug: str, sku: str) -> int:
    return NUMBERS[sku] + (100 if slug == "linden" else 0)


@pytest.fixture
def shops(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Two shops with the same items; Shopify has ten mugs in the first and seven in the second."""
    server = SandboxServer(0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("SHOPIFY_API_BASE", f"{server.url}/shopify")
    get_settings.cache_clear()
    for slug, pieces in PIECES.items():
        shop_id, domain = add_shop(engine, slug, f"{slug}.myshopify.com"), f"{slug}.myshopify.com"
        with transaction(engine) as tx:
            record_secret(tx, shop_id, "shopify-token", "shpat_0123456789abcdef", utc_now())
        control(server.url, shop=domain, token="shpat_0123456789abcdef")
        for sku, available in pieces.items():
            item_id = number(slug, sku)
            held = {"inventory_item_id": item_id, "location_id": LOCATION, "available": available}
            control(server.url, shop=domain, levels=[held])
            event = product(sku, number=item_id, variant=item_id + 500)
            ingest(engine, ingest_products, event._replace(shop_id=shop_id))
            observed = level(available, -1, number=item_id)._replace(shop_id=shop_id)
            ingest(engine, ingest_inventory_levels, observed)
    yield engine
    get_settings.cache_clear()
    server.shutdown()
    server.server_close()
    thread.join(60)


def join(*slugs: str) -> None:
    for slug in slugs or PIECES:
        joined = fleet("shops", "set", slug, "stock_owner=pool:mugs", f"stock_location_id={LOCATION}")
        assert joined.exit_code == 0, joined.output
        assert "Next, after each shop joined it: fleet stock pool mugs --all --dry-run" in joined.output


def held(slug: str, sku: str) -> int:
    shop_id = 1 if slug == "harbour" else 2
    place = ShopLevelKey(number(slug, sku), LOCATION)
    return open_admin(shop_id).fetch_levels([place])[place].available


def test_shops_share_stock_from_the_given_figure(shops: Engine) -> None:
    join()
    disputed = fleet("stock", "pool", "mugs", "--all")
    assert disputed.exit_code == 1
    assert "sku='MUG': the shops hold harbour 10, linden 7: name the shop that is right" in disputed.output
    assert rows(shops, GOODS) == []

    tried = fleet("stock", "pool", "mugs", "--all", "--from", "linden", "--dry-run")
    assert "Would link 4 levels." in tried.output, tried.output
    assert rows(shops, LINKED) == [(0,)]

    done = fleet("stock", "pool", "mugs", "--all", "--from", "linden")
    assert "Linked 4 levels." in done.output, done.output
    assert "1 push is planned: fleet work list" in done.output
    push(shops)
    assert rows(shops, GOODS) == [("CUP", 4), ("MUG", 7)]
    assert (held("harbour", "MUG"), held("linden", "MUG")) == (7, 7)
    (shown,) = json.loads(fleet("stock", "pools", "--json").output)
    assert (shown["shops"], shown["faults"]) == (["harbour", "linden"], [])
    assert shown["goods"][1] == {"sku": "MUG", "available": 7, "held": {"harbour": "7", "linden": "7"}}


def test_buffer_is_pushed_and_a_removed_sku_follows_shopify_again(shops: Engine) -> None:
    join()
    fleet("stock", "pool", "mugs", "--all", "--from", "harbour")
    assert (
        "Pool mugs keeps 2 of each sku from sale." in fleet("stock", "pool", "mugs", "--buffer", "2").output
    )
    push(shops)
    assert {held(slug, "MUG") for slug in PIECES} == {8}

    assert "Took MUG out of pool mugs." in fleet("stock", "pool", "mugs", "--sku", "MUG", "--remove").output
    assert rows(shops, GOODS) == [("CUP", 4)]
    assert rows(shops, "select distinct available from inventory_levels where sku = 'MUG'") == [(8,)]
    missing = fleet("stock", "pool", "mugs", "--sku", "MUG", "--remove")
    assert "sku=MUG is not in pool mugs" in missing.output


def test_items_that_a_shop_does_not_sell_and_an_extra_sku_are_ignored(shops: Engine) -> None:
    join()
    file = "sku,shop,shop_sku\nMUG,linden,-\n"
    assert "Linked 1 level." in fleet("stock", "pool", "mugs", "--csv", "-", typed=file).output
    (shown,) = json.loads(fleet("stock", "pools", "--json").output)
    unlinked = "linden: sku='MUG': in stock, and not linked: fleet stock pool mugs --sku MUG"
    assert shown["faults"] == [unlinked]

    wrong = fleet("stock", "pool", "mugs", "--sku", "MUG", "--from", "acme")
    assert "there is no shop 'acme': it should be one of harbour, linden" in wrong.output
    assert "Took MUG out of pool mugs." in fleet("stock", "pool", "mugs", "--all", "--remove").output


def test_shop_that_leaves_gets_its_levels_back_and_the_last_one_empties_the_pool(shops: Engine) -> None:
    join()
    fleet("stock", "pool", "mugs", "--all", "--from", "harbour")

    left = fleet("shops", "set", "linden", "stock_owner=shopify")
    assert "2 levels follow Shopify from now on: counted before, or in a pool" in left.output
    assert rows(shops, LINKED) == [(2,)]
    fleet("shops", "set", "harbour", "stock_owner=shopfleet")
    assert rows(shops, GOODS) == []
    assert rows(shops, LINKED) == [(0,)]


def test_different_skus_of_a_shop_are_named_in_a_file(shops: Engine, tmp_path: Path) -> None:
    ingest(shops, ingest_products, product("TASSE", 5, number=101, variant=601)._replace(shop_id=2))
    join()
    assert "linden: sku='MUG': no item has this sku" in fleet("stock", "pool", "mugs", "--sku", "MUG").output

    file = tmp_path / "own.csv"
    file.write_text("sku,shop,shop_sku\nMUG,linden,TASSE\n")
    done = fleet("stock", "pool", "mugs", "--csv", str(file), "--from", "harbour")
    assert "Linked 2 levels." in done.output, done.output
    (shown,) = json.loads(fleet("stock", "pools", "mugs", "--json").output)
    assert (shown["faults"], shown["goods"][0]["available"]) == ([], 10)

    for again in (("--sku", "MUG"), ("--all",)):
        linked = fleet("stock", "pool", "mugs", *again)
        assert (linked.exit_code, "Linked" in linked.output) == (0, True), linked.output
    assert rows(shops, GOODS) == [("CUP", 4), ("MUG", 10)]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("shop\nlinden\n", "line 1: the columns should be of sku, shop, shop_sku"),
        ("sku,shop\nMUG,acme\n", "line 2: shop='acme' should be one of harbour, linden"),
        ("sku,shop\n,linden\n", "line 2: sku='' should be a sku"),
    ],
)
def test_wrong_file_names_the_line(shops: Engine, file: str, message: str) -> None:
    join()
    refused = fleet("stock", "pool", "mugs", "--csv", "-", typed=file)
    assert refused.exit_code == 2
    assert message in refused.output


def test_shop_with_stock_of_a_pooled_sku_elsewhere_is_refused_by_name(shops: Engine) -> None:
    join("harbour")
    fleet("stock", "pool", "mugs", "--all")
    elsewhere = level(3, -1, number=number("linden", "MUG"), location=502)._replace(shop_id=2)
    ingest(shops, ingest_inventory_levels, elsewhere)

    refused = fleet("shops", "set", "linden", "stock_owner=pool:mugs", f"stock_location_id={LOCATION}")
    assert refused.exit_code == 1
    assert "linden: sku='MUG': item 101 has stock elsewhere, at 502 (3 pieces)" in refused.output
    assert rows(shops, "select stock_owner from shop_config where shop_id = 2") == [("shopify",)]


def test_sku_with_two_items_and_untracked_item_are_refused_and_listed(shops: Engine) -> None:
    join()
    fleet("stock", "pool", "mugs", "--all", "--from", "harbour")
    twin = product("MUG", number=9, variant=509)
    ingest(shops, ingest_products, twin)
    untracked = {"id": 102, "sku": "CUP", "tracked": False, "updated_at": "2026-11-20T20:10:00Z"}
    observed = item("x", untracked, event_topic="inventory_items/update")._replace(shop_id=2)
    ingest(shops, ingest_inventory_items, observed)

    (shown,) = json.loads(fleet("stock", "pools", "--json").output)
    assert shown["faults"] == [
        "linden: sku='CUP': Shopify does not track item 102: turn its quantity tracking on",
        "harbour: sku='MUG': the items 1, 9 have this sku: give each its own sku in Shopify",
    ]
    assert shown["faults"][1] in fleet("stock", "pools").output
    assert shown["faults"][1] in fleet("stock", "pool", "mugs", "--sku", "MUG").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("shops", "set", "harbour", "stock_owner=pool:Mugs"), "should be shopify, shopfleet or pool:NAME"),
        (("shops", "set", "harbour", "stock_owner=pool:mugs"), "should be the location of this shop in pool"),
        (("stock", "pool", "mugs", "--all"), "fleet shops set SHOP --stock-owner pool:NAME"),
        (("stock", "pools", "mugs"), "'mugs' does not exist: there is none yet"),
    ],
)
def test_error_names_what_is_wrong(shops: Engine, arguments: tuple[str, ...], message: str) -> None:
    refused = fleet(*arguments)
    assert refused.exit_code == 2
    assert message in refused.output


def test_location_of_a_shop_in_a_pool_stays(shops: Engine) -> None:
    join("harbour")
    refused = fleet("shops", "set", "harbour", "stock_location_id=9")
    assert f"stock_location_id='9' should stay {LOCATION} while the shop is in pool:mugs" in refused.output


def test_shop_of_a_pool_takes_no_count(shops: Engine) -> None:
    join("harbour")
    refused = fleet("stock", "count", "harbour", "--sku", "MUG", "--pieces", "3")
    assert "the shop's stock belongs to a pool: correct the figure in Shopify's admin" in refused.output
