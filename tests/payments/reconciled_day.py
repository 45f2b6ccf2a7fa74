"""A shop's day, compared with lists of Stripe's that a test gives."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from services.audit.append import append_all
from services.core.db import transaction
from services.jobs.definition import Covers
from services.jobs.handler import JobResult, Run
from services.payments import reconcile
from services.payments.comparison import Comparison
from services.payments.stripe_lists import StripeRow, UnreadableObject
from services.shops.secrets import record_secret
from tests.payments.day_rows import BEGINS, NOW, add_ours, row
from tests.shopify.sample_payloads import add_shop

DAY = date(2026, 11, 20)


STRIPE_KEY = "rk_test_0123456789"


class StripeOnPaper:
    """Stripe's lists of a day; ``fail`` breaks off after them. ``entries``: what was asked of the balance."""

    def __init__(self, *theirs: StripeRow, fail: Exception | None = None) -> None:
        self.rows, self.fail = list(theirs), fail
        self.asked: list[tuple[str, datetime, datetime]] = []
        self.entries: list[tuple[datetime, datetime]] = []

    def __call__(
        self, key: str, base_url: str, day: Comparison, unreadable: list[UnreadableObject]
    ) -> Iterator[StripeRow]:
        assert base_url
        self.asked.append((key, day.begins, day.ends))
        yield from self.rows
        if self.fail:
            raise self.fail

    def pull(
        self, shop_id: int, key: str, base_url: str, begins: datetime, ends: datetime, **more: Any
    ) -> int:
        self.entries.append((begins, ends))
        return 0


def no_causes(key: str, base_url: str, comparison: Comparison) -> None:
    """Stripe is not asked why."""


def compare(stripe: StripeOnPaper, period: str = "2026-11-20", now: datetime = NOW) -> JobResult:
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconcile, "list_stripe_rows", stripe)
        patch.setattr(reconcile, "fetch_balance_entries", stripe.pull)
        patch.setattr(reconcile, "suggest_causes", no_causes)
        return reconcile.reconcile_day(asked, clock=lambda: now)


def run(engine: Engine, *theirs: StripeRow, now: datetime = NOW) -> JobResult:
    outcome = compare(StripeOnPaper(*theirs), now=now)
    with transaction(engine) as tx:
        append_all(tx, outcome.record(tx).audit if outcome.record else [], now)
    return outcome


OURS = [
    row("ch_1", at=BEGINS),
    row("ch_2", at=BEGINS + timedelta(minutes=5)),
    row("ch_3", status="failed", at=BEGINS + timedelta(minutes=1439)),
    row("ch_4", at=BEGINS + timedelta(minutes=1440)),
]


CH_1, CH_2, CH_3, _ = OURS


BREAKS = "select kind, provider_id, closed_at is null from reconciliation_breaks order by 2, 1"


FOUND = "select count(*) from reconciliation_staging"


def add_reconciled_shop(engine: Engine) -> Engine:
    """A shop with its Stripe key, and three charges of the day and one of the next in its books."""
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "stripe-key", STRIPE_KEY, NOW)
        add_ours(tx, OURS)
    return engine
