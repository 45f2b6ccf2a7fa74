"""Refused webhooks: a backfill starts from the first refusal until the refusals end."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from services.core.db import transaction
from services.core.settings import get_settings
from services.ingress.request_stats import report_refusals
from services.ledger.sync_cursors import upsert_cursor
from services.ledger.webhook_refusals import QUIET, WebhookRefusals, find_first_refusal
from services.providers.delivery import MISSING_HEADER
from services.shopify.backfill import run as backfill_run
from services.shopify.backfill.run import OVERLAP, backfill_shopify
from services.shopify.subscriptions.check import check_subscriptions
from services.shopify.subscriptions.plan import WANTED, topic_to_enum
from tests.shopify.backfill.fake_shop import DOMAIN, Shops, control, job_run, put_order, work_off
from tests.shopify.backfill.sample_day import EVENING

HOUR = timedelta(hours=1)
FIRST, LAST = EVENING - 9 * HOUR, EVENING - 5 * HOUR


def refuse(shops: Shops, first_at: datetime = FIRST, last_at: datetime = LAST, **more: str) -> None:
    values = {"shop": "holed", "provider": "shopify", "outcome": MISSING_HEADER, "detail": "a proxy"} | more
    with transaction(shops.engine) as tx:
        report_refusals(tx, [WebhookRefusals(first_at=first_at, last_at=last_at, **values)], last_at)


def reach(shops: Shops, at: datetime) -> None:
    """Set the cursors of all lists of the hourly backfill to ``at``."""
    with transaction(shops.engine) as tx:
        upsert_cursor(tx, shops.holed, "shopify", "orders", at, at)


def backfill(shops: Shops, now: datetime = EVENING, **more: Any) -> int:
    stats = backfill_shopify(shops.holed, now, "backfill", **more)
    work_off(shops.engine)
    return stats.recorded.total()


def state(shops: Shops) -> tuple[datetime | None, list[str]]:
    with transaction(shops.engine) as tx:
        statuses = tx.execute(text("select status from incidents order by id")).scalars()
        return find_first_refusal(tx, shops.holed), list(statuses)


def test_backfill_starts_from_the_first_refusal_for_any_cursors(shops: Shops) -> None:
    reach(shops, EVENING - HOUR)
    put_order(shops, FIRST - OVERLAP + timedelta(minutes=1), 1)
    put_order(shops, FIRST - OVERLAP - timedelta(minutes=1), 2)
    assert backfill(shops, is_dry=True) == 0

    refuse(shops)

    assert backfill(shops) == 1


def test_refusals_are_over_after_a_complete_backfill_an_hour_after_the_last(shops: Shops) -> None:
    refuse(shops, last_at=EVENING - QUIET)

    backfill(shops)
    assert state(shops) == (FIRST, ["open"])
    backfill(shops, EVENING + timedelta(minutes=1), is_dry=True)
    assert state(shops) == (FIRST, ["open"])
    backfill(shops, EVENING + timedelta(minutes=1))
    assert state(shops) == (None, ["resolved"])
    refuse(shops, EVENING + HOUR, EVENING + HOUR)
    assert state(shops) == (EVENING + HOUR, ["open"])


def test_failed_backfill_keeps_the_first_refusal(shops: Shops) -> None:
    refuse(shops)

    class Gone:
        throttle = None

        def execute(self, *_: Any, **__: Any) -> Any:
            raise ConnectionError

    with pytest.MonkeyPatch.context() as broken, pytest.raises(ConnectionError):
        broken.setattr(backfill_run, "open_admin", lambda _: Gone())
        backfill(shops)

    assert state(shops) == (FIRST, ["open"])


def test_earliest_and_latest_of_all_processes_count(shops: Shops) -> None:
    refuse(shops, EVENING - 2 * HOUR, EVENING - 2 * HOUR)
    refuse(shops, FIRST, FIRST)

    assert state(shops)[0] == FIRST
    backfill(shops, EVENING - HOUR)
    assert state(shops)[0] == FIRST  # the later one is an hour old, not older


def test_only_shopify_gives_up_on_an_address_that_refuses(shops: Shops) -> None:
    refuse(shops, provider="stripe")

    assert state(shops) == (None, ["open"])


def test_deleted_subscription_is_created_again_and_backfilled_from_the_first_refusal(
    shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBLIC_URL", "https://hooks.example.com")
    get_settings.cache_clear()

    def watch(now: datetime) -> Any:
        return check_subscriptions(job_run(shops.holed, "subscription-watchdog"), lambda: now)

    for kept in (watch(EVENING - HOUR),):
        with transaction(shops.engine) as tx:
            kept.record(tx)
    reach(shops, EVENING)
    put_order(shops, FIRST + timedelta(minutes=1), 1)  # before the five hours that a drop alone would explain
    refuse(shops)
    control(shops.url, shop=DOMAIN, delete_subscriptions=[topic_to_enum("orders/create")])

    stats = watch(EVENING).stats

    assert (stats["lost"], stats["made"], stats["imported"]) == (1, 1, 1)
    assert stats["good"] == len(WANTED) - 1
