"""Holding two books together: every planted break is found, and no other, whatever the order and size."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from services.core.errors import Misconfigured
from services.payments.match import SideSum
from services.payments.match_rules import parse_fee_profile
from services.payments.stripe_rows import StripeRow, render_rows
from tests.payments.day_rows import BEGINS, NOON, add_ours, matched, row


def found(tx: Connection, theirs: list[StripeRow]) -> list[tuple[str, str]]:
    return [(kind, of) for kind, _, of in matched(tx, theirs)[1]]


def test_equal_books_have_no_breaks_and_their_sums(tx: Connection) -> None:
    both = [row("ch_1"), row("re_1", 300), row("du_1", 50), row("po_1", -700), row("ch_2", 5, "failed")]
    add_ours(tx, [*both, row("pi_1")])

    sums, breaks = matched(tx, both)

    assert breaks == []
    assert sorted(sums) == [
        SideSum(side, *rest)
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
        add_ours(tx, [row(f"{subject}_{n}") for n in (1, 2, 3, 4)])
    theirs = []
    for subject in ("ch", "re", "du", "po"):
        theirs += [
            row(f"{subject}_2", 999),
            row(f"{subject}_3", currency="USD"),
            row(f"{subject}_4", status="failed"),
            row(f"{subject}_5"),
        ]

    _, breaks = matched(tx, theirs)

    words = {"ch": "charge", "re": "refund", "du": "dispute", "po": "payout"}
    kinds = {1: "missing_there", 2: "amount", 3: "currency", 4: "status", 5: "missing_here"}
    assert breaks == [
        (kinds[n], words[subject], f"{subject}_{n}")
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
    assert found(tx, [still]) == []
    tx.exec_driver_sql("drop table if exists stripe_side, unequal, differing, twice, twins, known_orders")
    add_ours(tx, [still])
    assert found(tx, []) == []


def test_row_that_we_date_elsewhere_is_compared_and_not_missing(tx: Connection) -> None:
    early = BEGINS - timedelta(seconds=1)
    add_ours(tx, [row("ch_1", at=early), row("ch_2", at=early), row("ch_3", at=early)])

    assert found(tx, [row("ch_1", at=BEGINS), row("ch_2", 900, at=BEGINS)]) == [("amount", "ch_2")]


def test_other_shops_rows_are_not_ours(tx: Connection) -> None:
    add_ours(tx, [row("ch_1")], shop_id=2)

    assert found(tx, []) == []
    tx.exec_driver_sql("drop table if exists stripe_side, unequal, differing, twice, twins, known_orders")
    assert found(tx, [row("ch_1")]) == [("missing_here", "ch_1")]


def test_fee_that_stripe_tells_differently_is_a_break(tx: Connection) -> None:
    add_ours(tx, [row("ch_1", fee_cents=59), row("ch_2", fee_cents=59), row("ch_3")])

    assert found(tx, [row("ch_1", fee_cents=60), row("ch_2", fee_cents=59), row("ch_3", fee_cents=60)]) == [
        ("fee", "ch_1")
    ]
    ours, theirs = tx.exec_driver_sql("select ours, theirs from reconciliation_staging").one()
    assert (ours["fee_cents"], theirs["fee_cents"]) == (59, 60)


def add_entry(
    tx: Connection, entry_id: str, amount: int, fee: int, net: int, source: str, **more: Any
) -> None:
    tx.execute(
        text(
            "insert into balance_entries (shop_id, entry_id, kind, source_id, amount_cents, fee_cents, "
            "net_cents, currency, created_at) values (1, :id, :kind, :source, :amount, :fee, :net, "
            "'CAD', :at)"
        ),
        {"id": entry_id, "amount": amount, "fee": fee, "net": net, "source": source, "at": NOON}
        | {"kind": "charge"}
        | more,
    )


def test_entry_of_the_balance_that_does_not_add_up_is_a_break(tx: Connection) -> None:
    both = [row("ch_1", fee_cents=59), row("ch_2", fee_cents=59)]
    add_ours(tx, both)
    add_entry(tx, "txn_1", 1000, 59, 941, "ch_1")
    add_entry(tx, "txn_2", 1000, 59, 940, "ch_2")
    add_entry(tx, "txn_4", 1000, 61, 1, "ch_2", at=BEGINS - timedelta(1))

    assert matched(tx, both)[1] == [("fee", "balance", "txn_2")]


def test_fee_is_held_against_the_shops_profile_where_it_has_one(engine: Engine) -> None:
    from tests.shopify.sample_payloads import add_shop

    add_shop(engine)
    with engine.begin() as tx:
        tx.exec_driver_sql(
            """update shop_config set settings = '{"stripe_fee": {"percent": "2.9", "fixed_cents": 30}}'"""
        )
        both = [row("ch_1"), row("ch_2"), row("ch_3")]
        add_ours(tx, both)
        for number, fee in ((1, 59), (2, 60), (3, 61)):  # 2.9% of 10.00 and 0.30 are 0.59
            add_entry(tx, f"txn_{number}", 1000, fee, 1000 - fee, f"ch_{number}")

        assert matched(tx, both)[1] == [("fee", "charge", "ch_3")]
        (evidence,) = tx.exec_driver_sql("select evidence from reconciliation_staging").one()
        assert (evidence["looked_at"], evidence["expected_cents"]) == ("profile", 59)


@pytest.mark.parametrize(
    "profile",
    [
        "2.9% + 30",
        {"percent": 2.9, "fixed_cents": 30},
        {"percent": "2,9", "fixed_cents": 30},
        {"percent": "2.9"},
        {"percent": "2.9", "fixed_cents": "30"},
        {"percent": "2.9", "fixed_cents": 30, "tolerance_cents": -1},
    ],
)
def test_fee_profile_that_is_none_says_what_one_looks_like(profile: Any) -> None:
    with pytest.raises(Misconfigured, match=r"it should be like .*2\.9") as raised:
        parse_fee_profile(profile)

    assert raised.value.code == "stripe.fee_profile"


ORDER = "gid://shopify/Order/7"


def test_second_payment_of_an_order_is_a_duplicate_that_names_its_twin(tx: Connection) -> None:
    later = NOON + timedelta(minutes=1)
    both = [
        row("ch_1", order_ref=ORDER),
        row("ch_2", order_ref=ORDER, at=later),
        row("ch_3", parent_id="pi_1"),
        row("ch_4", parent_id="pi_1", at=later),
        row("ch_5", order_ref="gid://shopify/Order/8"),
        row("ch_6", 900, order_ref=ORDER),
        row("ch_7", order_ref=ORDER, currency="USD"),
        row("ch_8", order_ref=ORDER, refunded_cents=1000),
        row("ch_9", status="failed", order_ref=ORDER),
    ]
    add_ours(tx, both)

    assert matched(tx, both)[1] == [("duplicate", "charge", "ch_2"), ("duplicate", "charge", "ch_4")]
    told = tx.exec_driver_sql("select evidence ->> 'twin' from reconciliation_staging order by provider_id")
    assert [twin for (twin,) in told] == ["ch_1", "ch_3"]


@pytest.mark.parametrize(("days", "is_found"), [(1, True), (2, True), (3, False)])
def test_twin_may_be_of_the_two_days_before(tx: Connection, days: int, is_found: bool) -> None:
    both = [row("ch_2", order_ref=ORDER, at=BEGINS)]
    add_ours(tx, [*both, row("ch_1", order_ref=ORDER, at=BEGINS - timedelta(days=days))])
    add_ours(tx, [row("ch_0", order_ref=ORDER, at=BEGINS - timedelta(days=1))], shop_id=2)

    assert found(tx, both) == ([("duplicate", "ch_2")] if is_found else [])


@pytest.mark.parametrize(("total", "is_found"), [(2500, False), (2499, True)])
def test_order_paid_in_equal_parts_is_no_duplicate_if_its_total_covers_them(
    tx: Connection, total: int, is_found: bool
) -> None:
    both = [row("ch_1", order_ref=ORDER), row("ch_2", order_ref=ORDER), row("ch_3", 500, order_ref=ORDER)]
    add_ours(tx, both)
    add_order(tx, total)

    assert found(tx, both) == ([("duplicate", "ch_2")] if is_found else [])


def add_order(tx: Connection, total: int) -> None:
    tx.execute(
        text(
            "insert into orders (shop_id, order_gid, name, total_cents, currency, financial_status, "
            "placed_at, updated_at) values (1, :gid, '#7', :total, 'CAD', 'paid', :at, :at)"
        ),
        {"gid": ORDER, "total": total, "at": NOON},
    )


@pytest.mark.parametrize("ref", ["ch_1", "pi_1"])
@pytest.mark.parametrize(("amount", "is_found"), [(1000, False), (1100, True)])
def test_order_and_its_charge_are_held_together_where_shopify_names_the_charge(
    tx: Connection, ref: str, amount: int, is_found: bool
) -> None:
    both = [row("ch_1", parent_id="pi_1"), row("ch_2")]
    add_ours(tx, both)
    add_order(tx, amount)
    tx.execute(
        text(
            "insert into order_transactions (shop_id, order_transaction_id, order_gid, kind, status, "
            "gateway, amount_cents, currency, payment_ref, processed_at) "
            "values (1, 5, :gid, 'sale', 'success', 'stripe', :amount, 'CAD', :ref, :at)"
        ),
        {"gid": ORDER, "amount": amount, "ref": ref, "at": NOON},
    )

    assert matched(tx, both)[1] == ([("amount", "order", ORDER)] if is_found else [])


def test_a_test_payment_is_held_against_no_charge(tx: Connection) -> None:
    both = [row("ch_1")]
    add_ours(tx, both)
    add_order(tx, 1100)
    tx.execute(
        text(
            "insert into order_transactions (shop_id, order_transaction_id, order_gid, kind, status, "
            "gateway, amount_cents, currency, payment_ref, processed_at, is_test) "
            "values (1, 5, :gid, 'sale', 'success', 'bogus', 1100, 'CAD', 'ch_1', :at, true)"
        ),
        {"gid": ORDER, "at": NOON},
    )

    assert matched(tx, both)[1] == []


def test_texts_that_copy_would_read_otherwise_arrive_as_they_are(tx: Connection) -> None:
    odd = "a\\N\tb\nc\rd\\"
    theirs = [
        row("ch_1", order_ref=odd),
        row("ch_2", parent_id="p\\.", fee_cents=1),
        row("ch_3", order_ref="None"),
    ]

    matched(tx, theirs)

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


def expected(ours: list[StripeRow], theirs: list[StripeRow]) -> list[tuple[str, str]]:
    """The same by dictionaries: small, slow and plain."""
    here = {each.provider_id: each for each in ours}
    there = {each.provider_id: each for each in theirs}
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
@given(ours=BOOKS, theirs=BOOKS)
def test_random_books_break_where_dictionaries_say_so(
    engine: Engine, ours: list[StripeRow], theirs: list[StripeRow]
) -> None:
    with engine.connect() as tx, tx.begin() as outer:
        add_ours(tx, ours)
        assert found(tx, theirs) == expected(ours, theirs)
        outer.rollback()


def test_blocks_are_bounded() -> None:
    blocks = list(render_rows(row(f"ch_{n}") for n in range(4001)))

    assert [block.count(b"\n") for block in blocks] == [2000, 2000, 1]
