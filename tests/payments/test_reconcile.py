"""A shop's own day, compared, kept, closed again, and told of; and a closed month that does not change."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from services.audit.append import append_all
from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.jobs.definition import Covers
from services.jobs.handler import Run
from services.payments.breaks import MAX_AUDITED, count_day_breaks, list_day_breaks
from services.payments.comparison import Comparison
from services.payments.reconcile import DayOutcome, reconcile_day
from services.payments.stripe_rows import StripeRow
from services.shops.secrets import record_secret
from tests.payments.day_rows import BEGINS, NOW, add_ours, row
from tests.shopify.sample_payloads import add_shop, rows

DAY = date(2026, 11, 20)
STRIPE_KEY = "rk_test_0123456789"


class StripeOnPaper:
    """Stripe's lists of a day; ``fail`` breaks off after them. ``entries``: what was asked of the balance."""

    def __init__(self, *theirs: StripeRow, fail: Exception | None = None) -> None:
        self.rows, self.fail = list(theirs), fail
        self.asked: list[tuple[str, datetime, datetime]] = []
        self.entries: list[tuple[datetime, datetime]] = []

    def __call__(self, key: str, base_url: str, day: Comparison) -> Iterator[StripeRow]:
        assert base_url
        self.asked.append((key, day.begins, day.ends))
        yield from self.rows
        if self.fail:
            raise self.fail

    def pull(
        self, shop_id: int, key: str, base_url: str, begins: datetime, ends: datetime, *, request_id: str
    ) -> int:
        self.entries.append((begins, ends))
        return 0


def no_causes(key: str, base_url: str, comparison: Comparison) -> None:
    """Stripe is not asked why."""


def compare(stripe: StripeOnPaper, period: str = "2026-11-20", now: datetime = NOW) -> DayOutcome:
    asked = Run(
        id=1,
        job="daily-reconciliation",
        shop_id=1,
        period=period,
        covers=Covers.DAY,
        zone=ZoneInfo("America/Los_Angeles"),
        request_id="req-1",
        work_id=1,
    )
    return reconcile_day(
        asked, list_stripe_rows=stripe, fetch_entries=stripe.pull, suggest_causes=no_causes, clock=lambda: now
    )


def run(engine: Engine, *theirs: StripeRow, now: datetime = NOW) -> DayOutcome:
    outcome = compare(StripeOnPaper(*theirs), now=now)
    with transaction(engine) as tx:
        append_all(tx, outcome.record(tx).audit, now)
    return outcome


OURS = [
    row("ch_1", at=BEGINS),
    row("ch_2", at=BEGINS + timedelta(minutes=5)),
    row("ch_3", status="failed", at=BEGINS + timedelta(minutes=1439)),
    row("ch_4", at=BEGINS + timedelta(minutes=1440)),
]
CH_1, CH_2, CH_3, _ = OURS


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A shop with its Stripe key, and three charges of the day and one of the next in its books."""
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "stripe-key", STRIPE_KEY, NOW)
        add_ours(tx, OURS)
    return engine


BREAKS = "select kind, provider_id, closed_at is null from reconciliation_breaks order by 2, 1"
FOUND = "select count(*) from reconciliation_staging"


def test_clean_day_has_its_figures_and_no_incident(shop: Engine) -> None:
    stripe = StripeOnPaper(CH_1, CH_2, CH_3)

    outcome = compare(stripe)

    assert outcome.verdict == "clean"
    assert stripe.asked == [(STRIPE_KEY, BEGINS, BEGINS + timedelta(days=1))]
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
        assert outcome.record(tx).audit == ()
    assert rows(shop, "select * from incidents") == []


def test_breaks_are_kept_and_closed_when_gone(shop: Engine) -> None:
    outcome = run(shop, row("ch_1", 900, at=BEGINS), row("ch_9"), CH_3)

    assert outcome.verdict == "breaks"
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
    outcome = compare(StripeOnPaper())

    assert outcome.stats["breaks"] == 2
    assert rows(shop, BREAKS) == []


def test_run_that_died_is_run_again_and_what_it_left_goes(shop: Engine) -> None:
    compare(StripeOnPaper())

    run(shop, CH_1, now=NOW + timedelta(hours=7))

    assert rows(shop, BREAKS) == [("missing_there", "ch_2", True)]
    assert rows(shop, FOUND) == [(0,)]


def test_two_comparisons_of_a_day_at_once_do_not_mix(shop: Engine) -> None:
    first, second = compare(StripeOnPaper(CH_1)), compare(StripeOnPaper(CH_2))

    for outcome, expected in ((first, "ch_2"), (second, "ch_1")):
        with transaction(shop) as tx:
            outcome.record(tx)
        open_ones = [of for _, of, is_open in rows(shop, BREAKS) if is_open]
        assert open_ones == [expected]


def test_stripe_that_breaks_off_leaves_nothing_behind(shop: Engine) -> None:
    fault = RetryLater("stripe.unavailable")

    with pytest.raises(RetryLater) as raised:
        compare(StripeOnPaper(CH_1, fail=fault))

    assert raised.value is fault
    assert rows(shop, FOUND) == [(0,)]


def test_shop_without_stripe_is_done(engine: Engine) -> None:
    add_shop(engine)

    outcome = compare(StripeOnPaper())

    assert (outcome.verdict, outcome.stats["theirs"]) == ("no_stripe", 0)
    with transaction(engine) as tx:
        assert outcome.record(tx).audit == ()


@pytest.mark.parametrize("left", ["transactions", "webhooks"])
def test_shop_that_takes_stripes_webhooks_but_has_no_key_says_what_to_mend(shop: Engine, left: str) -> None:
    with transaction(shop) as tx:
        tx.exec_driver_sql("delete from shop_secrets")
        if left == "webhooks":
            tx.exec_driver_sql("delete from transactions")
            record_secret(tx, 1, "stripe-webhook", "whsec_0123456789abcdef", NOW)

    with pytest.raises(Misconfigured) as raised:
        compare(StripeOnPaper())

    assert raised.value.code == "stripe.no_key"


def test_break_opened_again_is_found_anew(shop: Engine) -> None:
    later = NOW + timedelta(hours=2)
    for theirs, now in (([CH_1], NOW), ([CH_1, CH_2], NOW), ([CH_1], later)):
        run(shop, *theirs, now=now)

    assert rows(shop, "select day, kind, closed_at, found_at from reconciliation_breaks") == [
        (DAY, "missing_there", None, later)
    ]


def test_every_break_that_opens_or_closes_is_in_the_audit_once(shop: Engine) -> None:
    cheap = row("ch_1", 900, at=BEGINS)
    for theirs in ([cheap, CH_2], [cheap, CH_2], [CH_1, CH_2]):
        run(shop, *theirs, CH_3)

    assert said(shop) == [
        "break found on 2026-11-20: ch_1 (amount), 10.00 CAD paid here, 9.00 CAD paid at Stripe",
        "break closed on 2026-11-20: ch_1 (amount), 10.00 CAD paid here, 9.00 CAD paid at Stripe",
    ]


def said(engine: Engine) -> list[str]:
    return [
        summary
        for (summary,) in rows(
            engine,
            "select summary from audit_mutations where table_name like '%break%' order by event_id, place",
        )
    ]


def test_audit_tells_two_hundred_changes_and_counts_the_others(shop: Engine) -> None:
    run(shop, row("ch_1", 900, at=BEGINS), *(row(f"ch_x{n:03}") for n in range(MAX_AUDITED + 5)))

    told = said(shop)
    assert len(told) == MAX_AUDITED + 1
    assert told[-1] == "and 7 more breaks found on 2026-11-20"
    ((counts,),) = rows(shop, "select after from audit_mutations where summary like 'and %'")
    assert counts == {"day": "2026-11-20", "missing_here": 6, "missing_there": 1}
    assert rows(shop, "select count(*) from reconciliation_breaks") == [(MAX_AUDITED + 7,)]


INCIDENT = "select rule, period, severity, status, summary, detail from incidents"


def test_a_day_has_one_incident_that_ends_when_it_is_clean(shop: Engine) -> None:
    run(shop, CH_1)
    run(shop, CH_1, row("ch_9"))

    ((rule, period, severity, status, summary, detail),) = rows(shop, INCIDENT)
    assert (rule, period, severity, status) == ("reconciliation_break", "2026-11-20", "P2", "open")
    assert summary.startswith(
        "2 payments of 2026-11-20 do not agree with Stripe: 1 missing_here, 1 missing_there."
    )
    assert detail == {"missing_here": 1, "missing_there": 1}

    run(shop, CH_1, CH_2)

    ((*_, status, summary, _),) = rows(shop, INCIDENT)
    assert status == "resolved"
    assert summary.endswith("(the day agrees with Stripe now)")


def close_month(engine: Engine) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "insert into closed_periods (shop_id, period, begins_on, ends_before, closed_at, figures, files, "
            "manifest_key, manifest_sha256) values (1, '2026-11', '2026-11-01', '2026-12-01', now(), '{}', "
            "'[]', "
            "'', '')"
        )


def standing(engine: Engine, *, only_open: bool = False) -> Sequence[Any]:
    with transaction(engine) as tx:
        found = list_day_breaks(tx, 1, DAY, only_open=only_open)
        return [(b.kind, b.provider_id, b.is_open, b.is_correction) for b in found]


def test_closed_days_breaks_stay_and_what_differs_is_a_correction(shop: Engine) -> None:
    run(shop, CH_1, row("ch_9"))
    kept = rows(shop, "select * from reconciliation_breaks order by id")
    close_month(shop)

    run(shop, CH_1, row("ch_9"))
    assert rows(shop, "select * from break_corrections") == []
    run(shop, CH_1, CH_2, row("ch_8"), now=NOW + timedelta(days=20))

    assert rows(shop, "select * from reconciliation_breaks order by id") == kept
    assert rows(shop, "select kind, provider_id, change from break_corrections order by id") == [
        ("missing_here", "ch_9", "closed"),
        ("missing_there", "ch_2", "closed"),
        ("missing_here", "ch_8", "found"),
    ]
    assert standing(shop) == [
        ("missing_here", "ch_8", True, True),
        ("missing_here", "ch_9", False, True),
        ("missing_there", "ch_2", False, True),
    ]
    with transaction(shop) as tx:
        assert count_day_breaks(tx, 1, DAY) == {"missing_here": 1}
    assert said(shop)[-1].startswith(
        "correction of a closed day: break found on 2026-11-20: ch_8 (missing_here)"
    )

    run(shop, CH_1, CH_2, row("ch_8", 500))
    run(shop, CH_1, CH_2, row("ch_8", 500))
    run(shop, CH_1, CH_2)
    run(shop, CH_1, CH_2)
    assert rows(
        shop, "select change, theirs ->> 'amount_cents' from break_corrections order by id offset 3"
    ) == [
        ("found", "500"),
        ("closed", "500"),
    ]
    assert rows(shop, "select status from incidents") == [("resolved",)]


def test_closing_a_month_waits_for_a_reconciliation_that_is_writing(shop: Engine) -> None:
    from services.payments.breaks import lock_payment_periods

    with transaction(shop) as tx:
        outcome = compare(StripeOnPaper())
        outcome.record(tx)
        with shop.connect() as other, other.begin():
            other.exec_driver_sql("set local lock_timeout = '50ms'")
            with pytest.raises(Exception, match="lock timeout"):
                lock_payment_periods(other, 1)
