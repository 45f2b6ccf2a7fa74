"""Balance entries of the sandbox's charges, refunds, disputes and payouts."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from services.sandbox.payloads import stripe as payloads
from services.sandbox.stripe.account import StripeAccount
from services.sandbox.stripe.balance import entries_of, usual_fee

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def entries(account, *question):
    status, page = account.answer("/v1/balance_transactions", [("limit", "100"), *question])
    assert status == 200
    return page["data"]


def figures(found):
    return sorted((one["reporting_category"], one["amount"], one["fee"], one["net"]) for one in found)


@pytest.fixture
def rng():
    return random.Random(1)


@pytest.fixture
def account():
    return StripeAccount("sk_test_ada")


def charge_of(rng, cents, hours=0, **more):
    at = AT + timedelta(hours=hours)
    return payloads.make_charge(rng, amount_cents=cents, currency="CAD", created_at=at, **more)


@pytest.mark.parametrize(("cents", "fee"), [(0, 30), (1000, 59), (50, 31), (5000, 175), (10_017, 320)])
def test_usual_fee_is_29_per_mille_and_30(cents, fee):
    assert usual_fee(cents) == fee


def test_charge_refund_dispute_and_payout_have_their_entries(account, rng):
    charge = charge_of(rng, 5000)
    refund = payloads.make_refund(rng, charge, amount_cents=1200, created_at=AT)
    dispute = payloads.make_dispute(rng, charge, created_at=AT, amount_cents=3800)
    payout = payloads.make_payout(rng, amount_cents=2000, currency="CAD", created_at=AT, arrives_at=AT)

    account.control({"charges": [charge], "refunds": [refund], "disputes": [dispute], "payouts": [payout]})

    assert figures(entries(account)) == [
        ("charge", 5000, 175, 4825),
        ("dispute", -3800, 1500, -5300),
        ("payout", -2000, 0, -2000),
        ("refund", -1200, 0, -1200),
    ]
    assert entries(account, ("source", charge["id"]))[0]["id"] == charge["balance_transaction"]
    assert [one["amount"] for one in entries(account, ("type", "refund"))] == [-1200]


def test_failed_charge_moves_nothing_and_fees_can_be_given(account, rng):
    failed, cheap = charge_of(rng, 900, status="failed"), charge_of(rng, 1000)

    account.control({"fees": {cheap["id"]: 7}, "charges": [failed, cheap]})

    assert figures(entries(account)) == [("charge", 1000, 7, 993)]


def test_entry_that_is_given_stays_as_it_is(account, rng):
    charge = charge_of(rng, 1000)
    given = entries_of(charge, 99)[0]

    account.control({"balance_transactions": [given], "charges": [charge]})

    assert figures(entries(account)) == [("charge", 1000, 99, 901)]


def test_dispute_that_is_won_gives_back_and_an_inquiry_takes_nothing(account, rng):
    charge = charge_of(rng, 1000)
    won = payloads.make_dispute(rng, charge, created_at=AT, status="won")
    inquiry = payloads.make_dispute(rng, charge, created_at=AT, status="warning_needs_response")

    account.control({"disputes": [won, inquiry]})

    assert figures(entries(account)) == [
        ("dispute", -1000, 1500, -2500),
        ("dispute_reversal", 1000, -1500, 2500),
    ]
    _, listed = account.answer("/v1/disputes", [])
    assert {one["status"]: len(one["balance_transactions"]) for one in listed["data"]} == {
        "won": 2,
        "warning_needs_response": 0,
    }


def test_payout_holds_what_came_after_the_one_before_it(account, rng):
    first, second, later = (
        charge_of(rng, 1000),
        charge_of(rng, 2000, hours=30),
        charge_of(rng, 4000, hours=60),
    )
    payouts = [
        payloads.make_payout(
            rng, amount_cents=cents, currency="CAD", created_at=AT + timedelta(hours=hours), arrives_at=AT
        )
        for cents, hours in ((941, 24), (1912, 48))
    ]
    account.control({"charges": [first, second, later], "payouts": payouts})

    contents = [[one["source"] for one in entries(account, ("payout", one["id"]))] for one in payouts]

    assert [sorted(one) for one in contents] == [
        sorted([first["id"], payouts[0]["id"]]),
        sorted([second["id"], payouts[1]["id"]]),
    ]


@pytest.mark.parametrize(
    ("cents", "status", "amounts"),
    [
        (2000, "paid", [-2000]),
        (-300, "paid", [300]),
        (2000, "failed", [-2000, 2000]),
        (5, "canceled", [-5, 5]),
    ],
)
def test_payout_that_failed_comes_back_and_a_negative_one_fills_up(account, rng, cents, status, amounts):
    payout = payloads.make_payout(
        rng, amount_cents=cents, currency="CAD", created_at=AT, arrives_at=AT, status=status
    )

    account.control({"payouts": [payout]})

    assert sorted(one["amount"] for one in entries(account)) == sorted(amounts)


def test_expanded_entry_is_the_entry(account, rng):
    charge = charge_of(rng, 1000)
    account.control({"charges": [charge]})

    _, page = account.answer("/v1/charges", [("expand[0]", "data.balance_transaction")])
    _, one = account.answer(f"/v1/charges/{charge['id']}", [("expand[0]", "balance_transaction")])

    assert page["data"][0]["balance_transaction"]["fee"] == one["balance_transaction"]["fee"] == 59
