"""Stripe's list of charges, through Stripe's own library and real HTTP to the sandbox."""

import socket
from datetime import timedelta

import pytest

from services.core.errors import Misconfigured, Refused, RetryLater
from services.payments.payload import parse_transaction
from services.providers.stripe_api import fetch_objects

KEY = "sk_test_ada"


def seed(sandbox, charges=(), **state):
    sandbox.state.control({"stripe_key": KEY, "charges": list(charges)} | state)


def charge(number, created, **changed):
    return {
        "id": f"ch_{number:04d}",
        "amount": 1000 + number,
        "currency": "usd",
        "created": created,
    } | changed


def listed(sandbox, now, key=KEY):
    window = {"created_gte": now - timedelta(days=1), "created_lt": now}
    charges = fetch_objects(key, f"{sandbox.url}/stripe", "charges", **window)
    return [parse_transaction(charge, shop_id=1, version_at=now) for charge in charges]


def test_day_of_more_than_two_pages_is_listed_once_and_newest_first(sandbox, now):
    end = int(now.timestamp())
    seed(sandbox, [charge(number, end - 1 - number) for number in range(205)])

    found = listed(sandbox, now)

    assert [one.provider_id for one in found] == [f"ch_{number:04d}" for number in range(205)]
    assert (found[0].amount_cents, found[0].currency, found[0].status) == (1000, "USD", "paid")


def test_window_includes_its_start_and_not_its_end(sandbox, now):
    end = int(now.timestamp())
    seed(sandbox, [charge(1, end - 86400), charge(2, end - 86401), charge(3, end), charge(4, end - 1)])

    assert [one.provider_id for one in listed(sandbox, now)] == ["ch_0004", "ch_0001"]


def test_failed_and_refunded_charges_are_marked(sandbox, now):
    at = int(now.timestamp()) - 5
    seed(
        sandbox,
        [charge(1, at, status="failed"), charge(2, at, amount_refunded=1002, refunded=True, currency="JPY")],
    )

    refunded, failed = listed(sandbox, now)

    assert failed.status == "failed"
    assert (refunded.status, refunded.refunded_cents, refunded.currency) == ("paid", 1002, "JPY")


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, Misconfigured, "stripe.key_refused"),
        (403, Misconfigured, "stripe.key_refused"),
        (400, Refused, "stripe.invalid_request"),
        (429, RetryLater, "stripe.rate_limited"),
        (500, RetryLater, "stripe.unavailable"),
        (503, RetryLater, "stripe.unavailable"),
    ],
)
def test_each_status_has_its_error(status, kind, code, sandbox, now):
    seed(sandbox, fail_next={"status": status, "count": 1})

    with pytest.raises(kind) as caught:
        listed(sandbox, now)
    assert caught.value.code == code
    assert listed(sandbox, now) == []


def test_rate_limit_gives_the_time_to_wait(sandbox, now):
    seed(sandbox, fail_next={"status": 429, "count": 1})

    with pytest.raises(RetryLater) as caught:
        listed(sandbox, now)
    assert caught.value.wait == timedelta(seconds=2)


@pytest.mark.parametrize("key", ["sk_live_unknown", ""])
def test_unknown_key_is_misconfigured(key, sandbox, now):
    with pytest.raises(Misconfigured) as caught:
        listed(sandbox, now, key)
    assert "sk_live_unknown" not in str(caught.value)


def test_refused_connection_is_retried_later(now):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))

        with pytest.raises(RetryLater):
            list(fetch_objects(KEY, f"http://127.0.0.1:{taken.getsockname()[1]}", "charges"))


def test_lost_answer_is_retried_later(sandbox, now):
    seed(sandbox, drop_next=1)

    with pytest.raises(RetryLater):
        listed(sandbox, now)
