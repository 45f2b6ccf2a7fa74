"""Matching recorded and Stripe rows: exactly the planted breaks are found, in any order and size."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from services.payments.stripe_lists import StripeRow, render_rows
from tests.payments.day_rows import BEGINS, add_recorded, found_breaks, match_rows, row


def test_equal_books_have_no_breaks_and_their_sums(tx: Connection) -> None:
    both = [row("ch_1"), row("re_1", 300), row("du_1", 50), row("po_1", -700), row("ch_2", 5, "failed")]
    add_recorded(tx, [*both, row("pi_1")])

    sums, breaks = match_rows(tx, both)

    assert breaks == []
    assert sorted(sums) == [
        (side, *rest)
        for side in ("ours", "theirs")
        for rest in (
            ("charge", "CAD", 2, 1000),
            ("dispute", "CAD", 1, 50),
            ("payout", "CAD", 1, -700),
            ("refund", "CAD", 1, 300),
        )
    ]


def test_each_kind_of_difference_is_named_for_each_subject(tx: Connection) -> None:
    for subject in ("ch", "re", "du", "po"):
        add_recorded(tx, [row(f"{subject}_{n}") for n in (1, 2, 3, 4)])
    stripe = []
    for subject in ("ch", "re", "du", "po"):
        stripe += [
            row(f"{subject}_2", 999),
            row(f"{subject}_3", currency="USD"),
            row(f"{subject}_4", status="failed"),
            row(f"{subject}_5"),
        ]

    _, breaks = match_rows(tx, stripe)

    kinds_by_prefix = {"ch": "charge", "re": "refund", "du": "dispute", "po": "payout"}
    kinds = {1: "missing_there", 2: "amount", 3: "currency", 4: "status", 5: "missing_here"}
    assert breaks == [
        (kinds[n], kinds_by_prefix[subject], f"{subject}_{n}")
        for subject in ("ch", "du", "po", "re")
        for n in range(1, 6)
    ]


@pytest.mark.parametrize(
    "still",
    [
        row("ch_1", status="failed"),
        row("ch_1", status="uncaptured"),
        row("re_1", status="pending"),
        row("du_1", status="warning_needs_response"),
        row("po_1", status="canceled"),
    ],
)
def test_what_moved_no_money_may_be_in_one_book_only(tx: Connection, still: StripeRow) -> None:
    assert found_breaks(tx, [still]) == []
    tx.exec_driver_sql(
        "drop table if exists stripe_side, unequal, differing, repeated_hashes, candidates, known_orders"
    )
    add_recorded(tx, [still])
    assert found_breaks(tx, []) == []


def test_row_recorded_on_another_day_is_compared_and_not_missing(tx: Connection) -> None:
    early = BEGINS - timedelta(seconds=1)
    add_recorded(tx, [row("ch_1", at=early), row("ch_2", at=early), row("ch_3", at=early)])

    assert found_breaks(tx, [row("ch_1", at=BEGINS), row("ch_2", 900, at=BEGINS)]) == [("amount", "ch_2")]


def test_rows_of_other_shops_are_ignored(tx: Connection) -> None:
    add_recorded(tx, [row("ch_1")], shop_id=2)

    assert found_breaks(tx, []) == []
    tx.exec_driver_sql(
        "drop table if exists stripe_side, unequal, differing, repeated_hashes, candidates, known_orders"
    )
    assert found_breaks(tx, [row("ch_1")]) == [("missing_here", "ch_1")]


def test_texts_with_copy_escapes_arrive_unchanged(tx: Connection) -> None:
    odd = "a\\N\tb\nc\rd\\"
    stripe = [
        row("ch_1", order_ref=odd),
        row("ch_2", parent_id="p\\.", fee_cents=1),
        row("ch_3", order_ref="None"),
    ]

    match_rows(tx, stripe)

    kept = tx.exec_driver_sql("select order_ref, parent_id, fee_cents from stripe_side order by provider_id")
    assert [tuple(each) for each in kept] == [
        (odd, None, None),
        ("", "p\\.", 1),
        ("None", None, None),
    ]


ROWS = st.builds(
    lambda number, amount, status, currency, hour: row(
        f"ch_{number}", amount, status, currency=currency, at=BEGINS + timedelta(hours=hour)
    ),
    st.integers(0, 12),
    st.sampled_from([900, 1000]),
    st.sampled_from(["paid", "failed", "pending"]),
    st.sampled_from(["CAD", "JPY"]),
    st.integers(-2, 25),
)


BOOKS = st.lists(ROWS, unique_by=lambda each: each.provider_id, max_size=12)


def expected(recorded: list[StripeRow], stripe: list[StripeRow]) -> list[tuple[str, str]]:
    """Reference implementation of the matching with dictionaries."""
    here = {each.provider_id: each for each in recorded}
    there = {each.provider_id: each for each in stripe}
    breaks = []
    for of, their in there.items():
        our = here.get(of)
        if our is None:
            breaks += [("missing_here", of)] * (their.status == "paid")
            continue
        breaks += [("amount", of)] * (our.amount_cents != their.amount_cents)
        breaks += [("currency", of)] * (our.currency != their.currency)
        breaks += [("status", of)] * (our.status != their.status)
    for of, our in here.items():
        in_day = 0 <= our.created - BEGINS.timestamp() < 86_400
        breaks += [("missing_there", of)] * (of not in there and in_day and our.status == "paid")
    return sorted(breaks, key=lambda each: (each[1], each[0]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recorded=BOOKS, stripe=BOOKS)
def test_random_rows_have_the_breaks_of_the_reference_implementation(
    engine: Engine, recorded: list[StripeRow], stripe: list[StripeRow]
) -> None:
    with engine.connect() as tx, tx.begin() as outer:
        add_recorded(tx, recorded)
        assert found_breaks(tx, stripe) == expected(recorded, stripe)
        outer.rollback()


def test_blocks_are_bounded() -> None:
    blocks = list(render_rows(row(f"ch_{n}") for n in range(4001)))

    assert [block.count(b"\n") for block in blocks] == [2000, 2000, 1]
