"""Conversion between amounts and minor units: exact, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.money import LARGEST_MINOR, MoneyInvalid, format_minor, to_minor

CURRENCIES = st.sampled_from(["CAD", "USD", "JPY", "KWD", "CLF", "XAF"])


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("12.50", "CAD", 1250),
        ("12.5", "CAD", 1250),
        ("12", "CAD", 1200),
        ("0.00", "CAD", 0),
        ("-3.07", "CAD", -307),
        ("1999", "JPY", 1999),
        ("1999.00", "JPY", 1999),
        ("1.999", "KWD", 1999),
        ("1.0001", "CLF", 10001),
        ("12.5000", "EUR", 1250),
    ],
)
def test_decimal_string_is_exact_minor_units(amount: str, currency: str, minor: int) -> None:
    assert to_minor(amount, currency) == minor


NONSENSE = ["", " 1", "1 ", "1,5", "1e3", "NaN", "Infinity", "1.", ".5", "+1", "1_000", "0x1", "١", "1.005"]


@pytest.mark.parametrize("amount", [*NONSENSE, "9" * 16, None, 1.5])
def test_nonsense_is_refused_and_named(amount: object) -> None:
    with pytest.raises(MoneyInvalid, match="amount"):
        to_minor(amount, "CAD")  # type: ignore[arg-type]


@pytest.mark.parametrize("currency", ["", "cad", "CADX", "C1D", "ÄÖÜ"])
def test_currency_is_three_capital_letters(currency: str) -> None:
    with pytest.raises(MoneyInvalid, match="three capital letters such as CAD"):
        to_minor("1", currency)


def test_yen_have_no_decimals_and_none_are_dropped() -> None:
    with pytest.raises(MoneyInvalid, match="more than the 0 decimals of JPY"):
        to_minor("10.5", "JPY")


def test_sum_that_a_column_cannot_hold_is_refused() -> None:
    with pytest.raises(MoneyInvalid, match="more than a bigint can hold"):
        to_minor("9" * 15, "CLF")


@given(st.integers(-(10**15) + 1, 10**15 - 1), CURRENCIES)
def test_formatted_amount_parses_to_the_same_amount(minor: int, currency: str) -> None:
    shown, _, unit = format_minor(minor, currency).partition(" ")

    assert unit == currency
    assert to_minor(shown, currency) == minor
    assert abs(minor) <= LARGEST_MINOR
