"""Job ``daily-reconciliation``: a shop's own day, compared, kept, closed again, and told of."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text

from services.audit.append import append_all
from services.books.reconcile import Reconcile
from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater, WorkError
from services.jobs.effect import Finished, Run
from services.jobs.job import Covers
from services.ledger.work import NewWork
from services.providers.stripe_api import Charge
from services.shops.secrets import record_secret
from tests.storefront.bodies import add_shop, rows

DAY = "2026-11-20"
BEGINS = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
NOW = datetime(2026, 11, 21, 8, 5, tzinfo=UTC)
STRIPE_KEY = "rk_test_0123456789"


class StripeOnPaper:
    """Stripe's list of charges. ``fail`` breaks off after the first page."""

    def __init__(self, *charges: Charge, fail: Exception | None = None) -> None:
        self.charges, self.fail = list(charges), fail
        self.asked: list[tuple[str, datetime, datetime]] = []

    def __call__(
        self, key: str, base_url: str, created_gte: datetime, created_lt: datetime
    ) -> Iterator[Charge]:
        assert base_url
        self.asked.append((key, created_gte, created_lt))
        yield from self.charges
        if self.fail:
            raise self.fail


def charge(number: int, amount: int = 1000, status: str = "succeeded", currency: str = "CAD") -> Charge:
    return Charge(f"ch_{number}", amount, currency, status, status == "succeeded", False, BEGINS)


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A shop with its Stripe key, and three charges of the day and one of the next in its books."""
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "stripe-key", STRIPE_KEY, NOW)
        for number, minutes, status in (
            (1, 0, "paid"),
            (2, 5, "paid"),
            (3, 1439, "failed"),
            (4, 1440, "paid"),
        ):
            tx.execute(
                text(
                    "insert into transactions (shop_id, provider_id, kind, status, amount_cents, currency, "
                    "occurred_at, version_at) values (1, :id, 'charge', :status, 1000, 'CAD', :at, :at)"
                ),
                {"id": f"ch_{number}", "status": status, "at": BEGINS + timedelta(minutes=minutes)},
            )
    return engine


def run(engine: Engine, stripe: StripeOnPaper, day: str = DAY) -> tuple[Finished | WorkError, list[NewWork]]:
    asked = Run(
        id=1,
        job="daily-reconciliation",
        shop_id=1,
        period=day,
        covers=Covers.DAY,
        zone=ZoneInfo("America/Vancouver"),
        request_id="req-1",
        work_id=1,
    )
    try:
        finished = Reconcile(stripe, clock=lambda: NOW)(asked)
    except WorkError as fault:
        return fault, []
    assert finished.record is not None
    with transaction(engine) as tx:
        told = finished.record(tx)
        append_all(tx, told.audit, NOW)
        return finished, list(told.follow_on)


BREAKS = "select kind, provider_id, closed_at is null from reconciliation_breaks order by 2, 1"
SUMMARY = "select last_daily_run from shop_config"


def test_clean_day_has_its_figures_and_sends_no_mail(shop: Engine) -> None:
    stripe = StripeOnPaper(charge(1), charge(2), charge(3, status="failed"))

    outcome, follow_on = run(shop, stripe)

    assert isinstance(outcome, Finished)
    assert outcome.verdict == "clean"
    assert follow_on == []
    assert stripe.asked == [(STRIPE_KEY, BEGINS, BEGINS + timedelta(days=1))]
    stats = {"ours": 3, "theirs": 3, "breaks": 0}
    assert outcome.stats == stats
    ((summary,),) = rows(shop, SUMMARY)
    assert summary == {"day": DAY, "at": NOW.isoformat(), "status": "clean", **stats}


def test_breaks_are_kept_told_of_once_and_closed_when_gone(shop: Engine) -> None:
    with transaction(shop) as tx:
        tx.exec_driver_sql("update shop_config set owner_email = 'owner@example.com'")
    outcome, follow_on = run(shop, StripeOnPaper(charge(1, 900), charge(9), charge(3, status="failed")))

    assert isinstance(outcome, Finished)
    assert outcome.verdict == "breaks"
    assert rows(shop, BREAKS) == [
        ("amount", "ch_1", True),
        ("missing_there", "ch_2", True),
        ("missing_here", "ch_9", True),
    ]
    assert [(new.topic, new.key, new.payload, new.request_id) for new in follow_on] == [
        ("mail_send", "1", {}, "req-1")
    ]
    ((kind, period, recipient, subject),) = rows(
        shop, "select kind, period, recipient, subject from mail_outbox"
    )
    assert (kind, period, recipient) == ("reconciliation_break", DAY, "owner@example.com")
    assert "Harbour" in subject

    _, again = run(shop, StripeOnPaper(charge(1), charge(2), charge(9)))
    assert again == []

    assert rows(shop, BREAKS) == [
        ("amount", "ch_1", False),
        ("missing_there", "ch_2", False),
        ("missing_here", "ch_9", True),
    ]


def test_stripe_that_breaks_off_leaves_nothing_behind(shop: Engine) -> None:
    fault = RetryLater("stripe.unavailable")

    outcome, _ = run(shop, StripeOnPaper(charge(1), fail=fault))

    assert outcome is fault
    assert rows(shop, BREAKS) == []
    assert rows(shop, SUMMARY) == [(None,)]


def test_older_day_run_again_does_not_hide_the_newest_summary(shop: Engine) -> None:
    run(shop, StripeOnPaper(charge(1), charge(2)))
    run(shop, StripeOnPaper(), day="2026-11-18")

    assert rows(shop, "select last_daily_run ->> 'day' from shop_config") == [(DAY,)]


def test_shop_without_stripe_is_done(engine: Engine) -> None:
    add_shop(engine)

    outcome, _ = run(engine, StripeOnPaper())

    assert isinstance(outcome, Finished)
    assert (outcome.verdict, outcome.stats["theirs"]) == ("no_stripe", 0)


@pytest.mark.parametrize("left", ["transactions", "webhooks"])
def test_shop_that_takes_stripes_webhooks_but_has_no_key_says_what_to_mend(shop: Engine, left: str) -> None:
    with transaction(shop) as tx:
        tx.exec_driver_sql("delete from shop_secrets")
        if left == "webhooks":
            tx.exec_driver_sql("delete from transactions")
            record_secret(tx, 1, "stripe-webhook", "whsec_0123456789abcdef", NOW)

    outcome, _ = run(shop, StripeOnPaper())

    assert isinstance(outcome, Misconfigured)
    assert outcome.code == "stripe.no_key"
    assert rows(shop, SUMMARY) == [(None,)]


def test_break_opened_again_is_found_anew(shop: Engine) -> None:
    for told in ([charge(1)], [charge(1), charge(2)], [charge(1)]):
        run(shop, StripeOnPaper(*told))

    assert rows(shop, "select day, kind, closed_at from reconciliation_breaks") == [
        (date(2026, 11, 20), "missing_there", None)
    ]


def test_every_break_that_opens_or_closes_is_in_the_audit_once(shop: Engine) -> None:
    for told in ([charge(1, 900), charge(2)], [charge(1, 900), charge(2)], [charge(1), charge(2)]):
        run(shop, StripeOnPaper(*told, charge(3, status="failed")))

    said = "select summary from audit_mutations where table_name = 'reconciliation_breaks' order by event_id"
    assert [row[0] for row in rows(shop, said)] == [
        "break found on 2026-11-20: ch_1 (amount), 10.00 CAD paid here, 9.00 CAD paid at Stripe",
        "break closed on 2026-11-20: ch_1 (amount), 10.00 CAD paid here, 9.00 CAD paid at Stripe",
    ]
