"""Audit texts: the steps of a figure by their owners, and amounts of any currency."""

import pytest

from services.ledger.audit_text import (
    FigureChange,
    audit_entry,
    format_money,
    format_money_change,
    split_change,
)
from services.ledger.work import WorkItem


def test_steps_are_connected_from_the_first_figure_to_the_last() -> None:
    assert split_change(FigureChange(12, 8), [("a", -3), ("b", -1)]) == {
        "a": FigureChange(12, 9),
        "b": FigureChange(9, 8),
    }


def test_one_owners_moves_are_one_step() -> None:
    assert split_change(FigureChange(12, 8), [("a", -3), ("a", -1)]) == {"a": FigureChange(12, 8)}


def test_moves_with_another_sum_give_the_whole_change_to_the_last_owner() -> None:
    assert split_change(FigureChange(12, 8), [("a", -3), ("b", -3)]) == {"b": FigureChange(12, 8)}


def test_owner_of_two_separate_moves_keeps_the_steps_connected() -> None:
    assert split_change(FigureChange(12, 6), [("a", -1), ("b", -3), ("a", -2)]) == {"a": FigureChange(12, 6)}


def test_figure_that_ends_where_it_began_is_no_change() -> None:
    assert split_change(FigureChange(12, 12), [("a", -3), ("b", 3)]) == {}


def test_owner_whose_moves_cancel_out_has_no_step() -> None:
    assert split_change(FigureChange(12, 11), [("a", 0), ("b", -1)]) == {"b": FigureChange(12, 11)}


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (4500, "CAD", "45.00 CAD"),
        (-5, "CAD", "-0.05 CAD"),
        (1999, "JPY", "1999 JPY"),
        (7, "", "7 minor units of no currency"),
        (7, "nonsense", "7 minor units of nonsense"),
    ],
)
def test_money_is_formatted_in_its_currency_or_in_minor_units(minor: int, currency: str, text: str) -> None:
    assert format_money(minor, currency) == text


def test_two_amounts_name_their_currency_once() -> None:
    assert format_money_change(4500, 4000, "CAD") == "45.00 -> 40.00 CAD"


@pytest.mark.parametrize(
    ("provider", "origin", "label"),
    [
        ("shopify", "webhook", "shopify webhook"),
        ("stripe", "replay", "stripe replay"),
        ("openphone", "backfill", "quo backfill"),
        ("", "beat", "job"),
    ],
)
def test_staff_label_is_the_sender_of_the_event_or_the_topic(provider: str, origin: str, label: str) -> None:
    item = WorkItem(7, 3, "job", "", {}, 0, "r-1", 1, "orders/paid" if provider else "", provider)
    entry = audit_entry(item._replace(origin=origin), [])

    assert (entry.shop_id, entry.staff_label, entry.request_id, entry.work_id) == (3, label, "r-1", 7)
    assert entry.action == ("orders/paid" if provider else "job")
