"""A shop's own day is compared with Stripe's lists."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.shops.secrets import record_secret
from tests.payments.day_rows import BEGINS, NOW, row
from tests.payments.reconciled_day import (
    BREAKS,
    CH_1,
    CH_2,
    CH_3,
    FOUND,
    STRIPE_KEY,
    FakeStripeLists,
    add_reconciled_shop,
    compare,
    run,
)
from tests.shopify.sample_payloads import add_shop, rows


@pytest.fixture
def shop(engine: Engine) -> Engine:
    return add_reconciled_shop(engine)


def test_clean_day_has_its_figures_and_no_incident(shop: Engine) -> None:
    stripe = FakeStripeLists(CH_1, CH_2, CH_3)

    outcome = compare(stripe)

    assert outcome.result == "clean"
    assert stripe.requests == [(STRIPE_KEY, BEGINS, BEGINS + timedelta(days=1))]
    assert stripe.entries == [(BEGINS, BEGINS + timedelta(days=1))]
    assert outcome.stats == {
        "ours": 3,
        "theirs": 3,
        "breaks": 0,
        "charge_cad_cents": 2000,
        "our_charge_cad_cents": 2000,
        "in_transit": 2,
        "in_transit_cad_cents": 2000,
        "unmatched_charges": 2,
    }
    with transaction(shop) as tx:
        assert outcome.record is not None
        assert outcome.record(tx).audit == ()
    assert rows(shop, "select * from incidents") == []


def test_breaks_are_stored_and_closed_when_resolved(shop: Engine) -> None:
    outcome = run(shop, row("ch_1", 900, at=BEGINS), row("ch_9"), CH_3)

    assert outcome.result == "breaks"
    assert {name: n for name, n in outcome.stats.items() if name.startswith("breaks")} == {
        "breaks": 3,
        "breaks_amount": 1,
        "breaks_missing_here": 1,
        "breaks_missing_there": 1,
    }
    assert rows(shop, BREAKS) == [
        ("amount", "ch_1", True),
        ("missing_there", "ch_2", True),
        ("missing_here", "ch_9", True),
    ]
    run(shop, CH_1, CH_2, row("ch_9"))
    assert rows(shop, BREAKS) == [
        ("amount", "ch_1", False),
        ("missing_there", "ch_2", False),
        ("missing_here", "ch_9", True),
    ]
    assert rows(shop, FOUND) == [(0,)]


def test_nothing_of_the_day_changes_before_its_record(shop: Engine) -> None:
    outcome = compare(FakeStripeLists())

    assert outcome.stats["breaks"] == 2
    assert rows(shop, BREAKS) == []


def test_run_that_died_is_repeated_and_its_staged_rows_are_removed(shop: Engine) -> None:
    compare(FakeStripeLists())

    run(shop, CH_1, now=NOW + timedelta(hours=7))

    assert rows(shop, BREAKS) == [("missing_there", "ch_2", True)]
    assert rows(shop, FOUND) == [(0,)]


def test_two_comparisons_of_a_day_at_once_do_not_mix(shop: Engine) -> None:
    first, second = compare(FakeStripeLists(CH_1)), compare(FakeStripeLists(CH_2))

    for outcome, expected in ((first, "ch_2"), (second, "ch_1")):
        with transaction(shop) as tx:
            assert outcome.record is not None
            outcome.record(tx)
        open_ones = [of for _, of, is_open in rows(shop, BREAKS) if is_open]
        assert open_ones == [expected]


def test_stripe_that_breaks_off_leaves_nothing_behind(shop: Engine) -> None:
    fault = RetryLater("stripe.unavailable")

    with pytest.raises(RetryLater) as raised:
        compare(FakeStripeLists(CH_1, fail=fault))

    assert raised.value is fault
    assert rows(shop, FOUND) == [(0,)]


def test_shop_without_stripe_is_done(engine: Engine) -> None:
    add_shop(engine)

    outcome = compare(FakeStripeLists())

    assert (outcome.result, outcome.stats["theirs"], outcome.record) == ("no_stripe", 0, None)


@pytest.mark.parametrize("left", ["transactions", "webhooks"])
def test_error_of_a_shop_with_webhooks_and_no_key_says_what_to_do(shop: Engine, left: str) -> None:
    with transaction(shop) as tx:
        tx.exec_driver_sql("delete from shop_secrets")
        if left == "webhooks":
            tx.exec_driver_sql("delete from transactions")
            record_secret(tx, 1, "stripe-webhook", "whsec_0123456789abcdef", NOW)

    with pytest.raises(Misconfigured) as raised:
        compare(FakeStripeLists())

    assert raised.value.code == "stripe.no_key"
