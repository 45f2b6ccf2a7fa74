"""Tax of sales: remitted by the shop or a channel, unclear, exports and exempt goods."""

import pytest
from sqlalchemy import Engine

from services.closing.corrections import find_new_corrections, list_closed_months
from services.closing.profit_and_loss import plan_statement
from services.closing.tax_profile import TaxProfile, find_profile_with_home
from services.core.db import transaction
from tests.closing.months import ZONE, at, gst_pst, insert, line, tax
from tests.closing.test_counting import SOLD, accounts, figures, give_back, sell, shown
from tests.shopify.sample_payloads import add_shop


@pytest.fixture
def shop(engine: Engine) -> Engine:
    add_shop(engine)
    return engine


def test_a_discount_of_prices_with_tax_is_split_into_net_and_tax(shop: Engine) -> None:
    sell(shop, line(10, 11_200, gst_pst(450, 630), discount_cents=1120), taxes_included=True)
    sell(
        shop, line(20, 11_200, gst_pst(0, 0), discount_cents=11_200), number=2, taxes_included=True
    )  # all of it

    assert accounts(shop) == {
        "gross_sales": 20_000, "discounts": -11_000, "tax:CA-BC:GST": 450, "tax:CA-BC:PST": 630,
    }  # fmt: skip


def test_tax_that_the_channel_remits_is_not_to_be_remitted_here(shop: Engine) -> None:
    liable = [one | {"liable": True} for one in gst_pst(500, 700)]
    sell(shop, line(10, 10_000, liable))
    give_back(shop, 5600, (10, 1, 5000, 600))

    assert accounts(shop) == {"gross_sales": 10_000, "returns": -5000, "channel_tax": 600}
    lines = shown(shop)
    assert lines["Tax that the sales channel remits, not to be remitted here"] == "6.00"
    assert not any("to remit" in label for label in lines)


def test_the_channel_remits_one_tax_and_the_shop_the_other(shop: Engine) -> None:
    gst, pst = gst_pst(500, 700)
    sell(shop, line(10, 10_000, [gst, pst | {"liable": True}]))

    assert accounts(shop) == {"gross_sales": 10_000, "channel_tax": 700, "tax:CA-BC:GST": 500}
    sums = {key[2]: found for key, found in figures(shop).taxes.sums.items()}
    assert {tax: found.charged - found.expected for tax, found in sums.items()} == {"GST": 0, "channel": 0}


def test_tax_of_a_province_without_a_registration_is_a_doubt(shop: Engine) -> None:
    profile = TaxProfile(province="CA-BC", registered=frozenset(("GST", "PST")))
    sell(shop, line(10, 10_000, [tax("GST", "0.05", 500), tax("PST", "0.06", 600)]), province="CA-SK")

    assert accounts(shop, profile) == {
        "gross_sales": 10_000, "tax:CA-SK:GST": 500, "doubt:CA-SK:PST": 600,
    }  # fmt: skip
    found = figures(shop, profile=profile)
    made = plan_statement(
        shop_name="Harbour", shop_currency="CAD", period="2026-10", zone=ZONE.key,
        accounts=found.accounts, accounts_before={}, corrections=(), counts=found.counts,
    )  # fmt: skip
    labels = {each.label: each.amount for each in made.lines}
    assert labels["DOUBT: PST of CA-SK, charged without a registration"] == "6.00"
    assert "PST to remit" not in labels


def test_goods_delivered_outside_canada_are_zero_rated_and_a_line_of_their_own(shop: Engine) -> None:
    sell(shop, line(10, 10_000, []), province="US-WA")
    give_back(shop, 2500, (10, 1, 2500, 0))

    assert accounts(shop) == {"gross_sales": 10_000, "returns": -2500, "zero_rated_sales": 7500}
    assert [key[1:] for key in figures(shop).taxes.sums] == [("US-WA", "zero-rated")]
    abroad = TaxProfile(province="US-WA")
    assert "zero_rated_sales" not in accounts(shop, abroad)


@pytest.mark.parametrize(
    ("exempt", "is_exempt"),
    [
        (("type:bicycles",), True),
        (("tag:pst exempt",), True),
        (("sku:Bike",), True),
        (("type:Bicycle",), False),
        (("tag:pst",), False),
        ((), False),
    ],
)
def test_goods_that_the_profile_names_have_no_provincial_tax(
    shop: Engine, exempt: tuple[str, ...], is_exempt: bool
) -> None:
    with transaction(shop) as tx:
        insert(tx, "products", shop_id=1, product_id=8001, title="B", status="active", updated_at=at(1),
               product_type="Bicycles", tags="new, PST exempt")  # fmt: skip
    bike = line(10, 100_000, [tax("GST", "0.05", 5000)], sku="BIKE", product_id=8001)
    sell(shop, bike, shipping_cents=1000, shipping_taxes=[tax("GST", "0.05", 50)])
    give_back(shop, 1050, (10, 1, 1000, 50))

    found = figures(shop, profile=TaxProfile(province="CA-BC", pst_exempt=exempt)).taxes.sums

    differences = {key[2]: each.charged - each.refunded - each.expected for key, each in found.items()}
    assert differences == ({"GST": 0} if is_exempt else {"GST": 0, "PST": -7000})


def test_nothing_is_expected_of_an_order_that_is_tax_exempt(shop: Engine) -> None:
    sell(shop, line(10, 10_000, []), is_tax_exempt=True, shipping_cents=500)

    ((key, found),) = figures(shop).taxes.sums.items()

    assert (key[2], found.expected, found.base) == ("none", 0, 10_500)


def test_what_is_handed_over_is_taxed_where_the_counter_or_pickup_is(shop: Engine) -> None:
    with transaction(shop) as tx:
        insert(tx, "locations", shop_id=1, location_id=9, name="M", province="CA-AB", updated_at=at(1))
    sell(shop, line(10, 10_000, [tax("GST", "0.05", 500)]), province="", location_id=9)
    sell(shop, number=2, province="")

    assert accounts(shop).keys() >= {"tax:CA-AB:GST", "tax:CA-BC:GST", "tax:CA-BC:PST"}
    assert figures(shop).taxes.sums["CAD", "CA-AB", "GST"].expected == 500


def test_registration_counts_in_the_shops_province_even_if_only_shopify_states_it(
    shop: Engine,
) -> None:
    with transaction(shop) as tx:
        insert(tx, "storefronts", shop_id=1, province="CA-BC", updated_at=at(1))
        tx.exec_driver_sql(
            "update shop_config set settings = settings || "
            """'{"tax": {"registered": ["GST", "PST"]}}'::jsonb"""
        )
        profile = find_profile_with_home(tx, 1)
    sell(shop)

    assert accounts(shop, profile) == {"gross_sales": 10_000, "tax:CA-BC:GST": 500, "tax:CA-BC:PST": 700}


def test_a_month_closed_by_an_older_version_has_no_corrections_of_accounts_it_did_not_have(
    shop: Engine,
) -> None:
    sell(shop, tip_cents=500, financial_status="pending", is_tax_exempt=False)
    old = {"format": "shopfleet-month/1", "zone": ZONE.key, "home": "CA-BC", "counts": {},
           "accounts": {"CAD": {**SOLD, "gross_sales": 9000}}}  # fmt: skip
    with transaction(shop) as tx:
        insert(tx, "closed_periods", shop_id=1, period="2026-10", begins_on=at(1), ends_before=at(31),
               closed_at=at(31), figures=old, files=[], manifest_key="", manifest_sha256="")  # fmt: skip
        late = find_new_corrections(tx, 1, list_closed_months(tx, 1), {"2026-10": {}})

    assert [(c.account, c.before, c.after) for c in late] == [("gross_sales", 9000, 10_000)]
