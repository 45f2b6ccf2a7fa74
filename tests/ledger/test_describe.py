"""A figure's way is shared out among those who moved it, and money of any currency can be said."""

import pytest

from services.ledger.describe import Change, audit_entry, format_money, format_money_change, split_change
from services.ledger.work import WorkItem


def test_steps_join_up_from_the_first_figure_to_the_last() -> None:
    assert split_change(Change(12, 8), [("a", -3), ("b", -1)]) == {"a": Change(12, 9), "b": Change(9, 8)}


def test_one_owners_moves_are_one_step() -> None:
    assert split_change(Change(12, 8), [("a", -3), ("a", -1)]) == {"a": Change(12, 8)}


def test_moves_that_lead_elsewhere_leave_the_whole_way_to_the_last_owner() -> None:
    assert split_change(Change(12, 8), [("a", -3), ("b", -3)]) == {"b": Change(12, 8)}


def test_owner_who_comes_twice_with_another_between_breaks_no_joint() -> None:
    assert split_change(Change(12, 6), [("a", -1), ("b", -3), ("a", -2)]) == {"a": Change(12, 6)}


def test_figure_that_ends_where_it_began_is_no_change() -> None:
    assert split_change(Change(12, 12), [("a", -3), ("b", 3)]) == {}


def test_owner_whose_moves_cancel_out_has_no_step() -> None:
    assert split_change(Change(12, 11), [("a", 0), ("b", -1)]) == {"b": Change(12, 11)}


@pytest.mark.parametrize(
    ("minor", "currency", "said"),
    [
        (4500, "CAD", "45.00 CAD"),
        (-5, "CAD", "-0.05 CAD"),
        (1999, "JPY", "1999 JPY"),
        (7, "", "7 minor units of no currency"),
        (7, "nonsense", "7 minor units of nonsense"),
    ],
)
def test_money_is_said_in_its_currency_or_in_minor_units(minor: int, currency: str, said: str) -> None:
    assert format_money(minor, currency) == said


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
def test_event_says_who_sent_it_and_work_without_one_its_topic(
    provider: str, origin: str, label: str
) -> None:
    item = WorkItem(7, 3, "job", "", {}, 0, "r-1", 1, "orders/paid" if provider else "", provider)
    entry = audit_entry(item._replace(origin=origin), [])

    assert (entry.shop_id, entry.staff_label, entry.request_id, entry.work_id) == (3, label, "r-1", 7)
    assert entry.action == ("orders/paid" if provider else "job")
