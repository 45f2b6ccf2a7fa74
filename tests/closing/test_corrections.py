"""Corrections: differences from the last statement, merged by the month that states them."""

import pytest

from services.closing.corrections import (
    Correction,
    merge_corrections,
    plan_corrections,
    shift_month,
)


def test_difference_is_found_against_the_last_stated_value() -> None:
    stated = {"CAD": {"gross_sales": 100, "returns": -5}, "JPY": {"shipping": 7}}
    since = [Correction("2026-10", "gross_sales", "CAD", 100, 120)]
    today = {"CAD": {"gross_sales": 120, "tax:CA-BC:GST": 9}, "JPY": {"shipping": 7}}

    assert plan_corrections("2026-10", stated, since, today) == [
        Correction("2026-10", "returns", "CAD", -5, 0),
        Correction("2026-10", "tax:CA-BC:GST", "CAD", 0, 9),
    ]


def test_account_corrected_twice_is_merged_and_a_reverted_one_is_dropped() -> None:
    first = Correction("2026-08", "returns", "CAD", 10, 20)
    other = Correction("2026-08", "shipping", "CAD", 5, 6)

    merged = merge_corrections(
        [first, other], [first._replace(before=20, after=30), other._replace(before=6, after=5)]
    )

    assert merged == [first._replace(after=30)]


@pytest.mark.parametrize(
    ("period", "months", "other"),
    [("2026-12", 1, "2027-01"), ("2026-01", -1, "2025-12"), ("2026-03", -12, "2025-03")],
)
def test_months_are_counted_over_the_year(period: str, months: int, other: str) -> None:
    assert shift_month(period, months) == other
