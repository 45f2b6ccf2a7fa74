"""Tax of an item: named, split to the cent, and compared with the rates of the day of sale."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.closing.sale_items import SaleItem
from services.closing.tax_lines import plan_taxed, split_minor
from services.closing.tax_profile import TaxProfile

VANCOUVER = ZoneInfo("America/Los_Angeles")
SOLD = datetime(2026, 10, 5, 19, tzinfo=UTC)
NOBODY_SAID = TaxProfile()


def tax(title: str, rate: str | None, cents: int) -> dict[str, Any]:
    return {"title": title, "rate": rate, "cents": cents}


def item(**changed: Any) -> SaleItem:
    plain = SaleItem(
        at=SOLD, order_gid="g", kind="sale", place=1, order_name="#1", placed_at=SOLD, province="CA-BC",
        currency="CAD", taxes_included=False, sku="MUG", title="A mug", quantity=1, discount=0, amount=1000,
        taxes=None, tax_cents=0, is_taxable=True, is_gift_card=False,
    )  # fmt: skip
    return plain._replace(**changed)


def charged(province: str, *taxes: dict[str, Any]) -> dict[str, int]:
    return dict(plan_taxed(item(province=province, taxes=list(taxes)), VANCOUVER, NOBODY_SAID).charged)


@pytest.mark.parametrize(
    ("province", "title", "rate", "wanted"),
    [
        ("CA-BC", "GST", "0.05", {"GST": 100}),
        ("CA-BC", "Canada GST/TPS", "0.05", {"GST": 100}),
        ("CA-BC", "British Columbia PST", "0.07", {"PST": 100}),
        ("CA-MB", "RST", "0.07", {"PST": 100}),
        ("CA-ON", "HST", None, {"HST": 100}),
        ("CA-QC", "TVQ", "0.09975", {"QST": 100}),
        ("CA-ON", "GST/HST", "0.13", {"HST": 100}),
        ("CA-AB", "GST/HST", "0.05", {"GST": 100}),
        ("CA-QC", "TPS/TVQ", "0.14975", {"GST": 33, "QST": 67}),
        ("CA-BC", "Tax", "0.12", {"GST": 42, "PST": 58}),
        ("CA-BC", "Tax", "0.07", {"PST": 100}),
        ("CA-BC", "Tyre levy", "0.01", {"other": 100}),
        ("CA-BC", "Tyre levy", None, {"other": 100}),
        ("CA-BC", "Tyre levy", "a lot", {"other": 100}),
        ("AU-NSW", "GST", "0.1", {"other": 100}),
        ("US", "GST", "0.05", {"other": 100}),
        ("", "GST", "0.05", {"GST": 100}),
    ],
)  # fmt: skip
def test_tax_line_has_a_name(province: str, title: str, rate: str | None, wanted: dict[str, int]) -> None:
    assert charged(province, tax(title, rate, 100)) == wanted


@settings(derandomize=True, deadline=None, database=None)
@given(st.integers(-(10**12), 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
def test_parts_add_up_to_the_whole_within_one_unit_each(total: int, weights: list[int]) -> None:
    parts = split_minor(total, weights)

    assert sum(parts) == total
    whole = sum(weights)
    if whole:
        assert all(
            abs(part * whole - total * weight) < whole for part, weight in zip(parts, weights, strict=True)
        )


@settings(derandomize=True, deadline=None, database=None)
@given(st.integers(0, 10**6), st.integers(0, 10**5), st.integers(0, 10**5))
def test_refunded_tax_is_shared_as_the_sale_was_to_the_cent(back: int, gst: int, pst: int) -> None:
    sold = [tax("GST", "0.05", gst), tax("PST", "0.07", pst)]

    taxed = plan_taxed(item(kind="refund", taxes=sold, tax_cents=back), VANCOUVER, NOBODY_SAID)

    assert -sum(taxed.charged.values()) == back


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.integers(0, 4000), min_size=1, max_size=5))
def test_line_refunded_in_parts_never_exceeds_its_sale(parts: list[int]) -> None:
    sold = [tax("GST", "0.05", 417), tax("PST", "0.07", 583)]
    whole = plan_taxed(item(kind="refund", taxes=sold, tax_cents=sum(parts)), VANCOUVER, NOBODY_SAID)
    several = [
        plan_taxed(item(kind="refund", taxes=sold, tax_cents=part), VANCOUVER, NOBODY_SAID) for part in parts
    ]

    gst = sum(one.charged.get("GST", 0) for one in several)
    assert abs(gst - whole.charged.get("GST", 0)) <= len(parts)


def expected(**changed: Any) -> dict[str, int] | None:
    profile = changed.pop("profile", NOBODY_SAID)
    found = plan_taxed(item(**changed), VANCOUVER, profile).expected
    return None if found is None else dict(found)


def test_half_a_cent_goes_up_line_by_line() -> None:
    assert expected(amount=1250) == {"GST": 63, "PST": 88}  # 62.5 and 87.5
    assert expected(amount=1249) == {"GST": 62, "PST": 87}
    assert expected(amount=1250, kind="refund") == {"GST": -63, "PST": -88}


def test_a_price_with_tax_has_its_share_of_each() -> None:
    assert expected(amount=1120, taxes_included=True) == {"GST": 50, "PST": 70}
    taxed = plan_taxed(
        item(amount=1120, taxes_included=True, taxes=[tax("GST", "0.05", 50), tax("PST", "0.07", 70)]),
        VANCOUVER, NOBODY_SAID,
    )  # fmt: skip
    assert (taxed.net, taxed.difference) == (1000, 0)


def test_what_is_not_taxable_and_gift_cards_expect_nothing_and_tax_on_them_shows() -> None:
    assert expected(is_taxable=False) == {}
    assert expected(is_gift_card=True) == {}
    taxed = plan_taxed(item(is_taxable=False, taxes=[tax("GST", "0.05", 50)]), VANCOUVER, NOBODY_SAID)
    assert taxed.difference == 50


def test_the_rate_is_that_of_the_day_of_sale_by_the_shops_clock() -> None:
    halifax = ZoneInfo("America/Halifax")
    midnight = datetime(2025, 4, 1, 0, 0, tzinfo=halifax).astimezone(UTC)

    def hst(placed_at: datetime, **changed: Any) -> int:
        found = plan_taxed(item(province="CA-NS", placed_at=placed_at, **changed), halifax, NOBODY_SAID)
        assert found.expected is not None
        return found.expected["HST"]

    assert hst(midnight - timedelta(seconds=1)) == 150
    assert hst(midnight) == 140
    assert hst(midnight - timedelta(days=3), kind="refund", at=midnight + timedelta(days=9)) == -150


def test_whole_units_and_thousandths_round_to_themselves() -> None:
    assert expected(amount=1250, currency="JPY") == {"GST": 63, "PST": 88}
    assert expected(amount=12_345, currency="KWD", province="CA-AB") == {"GST": 617}


def test_a_shop_is_expected_to_collect_only_what_it_is_registered_for() -> None:
    at_home = TaxProfile(province="CA-BC", registered=frozenset({"GST", "PST"}))

    assert expected(profile=at_home) == {"GST": 50, "PST": 70}
    assert expected(profile=at_home, province="CA-SK") == {"GST": 50}
    assert expected(profile=at_home, province="CA-ON") == {"HST": 130}
    abroad = TaxProfile(province="CA-BC", registered=frozenset({"PST:CA-SK"}))
    assert expected(profile=abroad, province="CA-SK") == {"PST": 60}
    assert expected(profile=abroad) == {}


def test_refunded_tax_of_a_sale_without_tax_lines_has_no_name() -> None:
    taxed = plan_taxed(item(kind="refund", tax_cents=12), VANCOUVER, NOBODY_SAID)

    assert taxed.charged == {"other": -12}
