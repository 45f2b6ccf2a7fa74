"""Reconciliation of a shop's day with Stripe lists from the test."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from services.audit.append import append_all
from services.core.db import transaction
from services.jobs.definition import Covers
from services.jobs.handler import JobResult, JobRun
from services.payments import reconcile
from services.payments.comparison import DayComparison
from services.payments.stripe_lists import StripeRow, UnreadableObject
from services.shops.secrets import record_secret
from tests.payments.day_rows import BEGINS, NOW, add_recorded, row
from tests.shopify.sample_payloads import add_shop

DAY = date(2026, 11, 20)


STRIPE_KEY = "rk_test_0123456789"


class FakeStripeLists:
    """Stripe's lists of a day; ``fail`` is raised after them. ``entries``: requests for the balance."""

    def __init__(self, *stripe_rows: StripeRow, fail: Exception | None = None) -> None:
        self.rows, self.fail = list(stripe_rows), fail
        self.requests: list[tuple[str, datetime, datetime]] = []
        self.entries: list[tuple[datetime, datetime]] = []

    def __call__(
        self, key: str, base_url: str, day: DayComparison, unreadable: list[UnreadableObject]
    ) -> Iterator[StripeRow]:
        assert base_url
        self.requests.append((key, day.begins, day.ends))
        yield from self.rows
        if self.fail:
            raise self.fail

    def pull(
        self, shop_id: int, key: str, base_url: str, begins: datetime, ends: datetime, **more: Any
    ) -> int:
        self.entries.append((begins, ends))
        return 0


def no_causes(key: str, base_url: str, comparison: DayComparison) -> None:
    """Skip the search for causes at Stripe."""


def compare(stripe: FakeStripeLists, period: str = "2026-11-20", now: datetime = NOW) -> JobResult:
    asked = JobRun(
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
        patch.setattr(reconcile, "fetch_stripe_rows", stripe)
        patch.setattr(reconcile, "fetch_balance_entries", stripe.pull)
        patch.setattr(reconcile, "suggest_causes", no_causes)
        return reconcile.reconcile_day(asked, clock=lambda: now)


def run(engine: Engine, *stripe_rows: StripeRow, now: datetime = NOW) -> JobResult:
    outcome = compare(FakeStripeLists(*stripe_rows), now=now)
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
    """Insert a shop with a Stripe key, three charges of the day and one of the next day."""
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "stripe-key", STRIPE_KEY, NOW)
        add_recorded(tx, OURS)
    return engine
