"""Tax rates by province and date; contradictions are refused."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from services.closing.tax_rates import RatesInvalid, _table, find_rates, parse_rates

TODAY = date(2026, 10, 1)
RULES = {"rounding": "half_up_per_line", "gift_cards": "not_taxed", "shipping": "as_goods"}


@pytest.mark.parametrize(
    ("province", "rates"),
    [
        ("BC", {"GST": "5", "PST": "7"}), ("SK", {"GST": "5", "PST": "6"}), ("MB", {"GST": "5", "PST": "7"}),
        ("QC", {"GST": "5", "QST": "9.975"}), ("ON", {"HST": "13"}), ("NB", {"HST": "15"}),
        ("NL", {"HST": "15"}), ("PE", {"HST": "15"}), ("NS", {"HST": "14"}), ("AB", {"GST": "5"}),
        ("YT", {"GST": "5"}), ("NT", {"GST": "5"}), ("NU", {"GST": "5"}),
    ],
)  # fmt: skip
def test_province_has_these_taxes(province: str, rates: dict[str, str]) -> None:
    found = find_rates(f"CA-{province}", TODAY)

    assert found is not None
    assert {rate.tax: rate.share for rate in found} == {tax: Decimal(of) / 100 for tax, of in rates.items()}


def test_every_province_is_known() -> None:
    assert len(_table()) == 13


def test_nova_scotia_went_from_15_to_14_percent_overnight() -> None:
    shares = [find_rates("CA-NS", day) for day in (date(2025, 3, 31), date(2025, 4, 1))]

    assert [rates[0].share for rates in shares if rates] == [Decimal("0.15"), Decimal("0.14")]


def test_other_countries_and_old_dates_have_no_rate() -> None:
    assert find_rates("US-CA", TODAY) is None
    assert find_rates("", TODAY) is None
    assert find_rates("CA-ON", date(2009, 1, 1)) is None


def entry(**changed: Any) -> dict[str, Any]:
    return {"tax": "HST", "provinces": ["CA-NS"], "percent": "15", "valid_from": date(2010, 7, 1)} | changed


def test_two_rates_of_one_tax_on_one_day_are_refused() -> None:
    with pytest.raises(RatesInvalid, match="HST of CA-NS has two rates on 2025-04-01"):
        parse_rates({"rules": RULES, "rate": [entry(), entry(percent="14", valid_from=date(2025, 4, 1))]})


@pytest.mark.parametrize("changed", [{"percent": 15.0}, {"percent": "many"}, {"tax": "VAT"}])
def test_invalid_entry_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(RatesInvalid, match="should be"):
        parse_rates({"rules": RULES, "rate": [entry(**changed)]})


def test_rules_that_the_code_does_not_follow_are_refused() -> None:
    with pytest.raises(RatesInvalid, match="which the code applies"):
        parse_rates({"rules": RULES | {"rounding": "half_even"}, "rate": []})
