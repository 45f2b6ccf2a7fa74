"""Job ``daily-reconciliation``: closes the day, stores its summary, mails the owner only findings."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, Engine, insert, text

from services.audit.append import AuditEntry, Mutation, append_all
from services.closing.daily import check_day
from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.jobs.definition import Covers
from services.jobs.handler import JobResult, JobRun
from services.ledger.tables import request_counts
from services.ledger.work import FollowUp
from tests.shopify.sample_payloads import add_shop, rows

DAY = "2026-11-20"
NOW = datetime(2026, 11, 21, 8, 5, tzinfo=UTC)
SUMMARY = "select last_daily_run from shop_config"


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A shop with an owner address and some audit events."""
    add_shop(engine)
    with transaction(engine) as tx:
        tx.execute(text("update shop_config set owner_email = 'owner@example.com'"))
        for number in range(3):
            mutations = [Mutation("orders", str(number), f"order {number} recorded")]
            append_all(tx, [AuditEntry(1, "shopify", "order_ingest", "r", mutations)], NOW)
    return engine


def payments(run_result: str = "clean", **stats: int) -> Mapping[str, Any]:
    return {"result": run_result, "stats": {"ours": 2, "theirs": 2, "breaks": 0} | stats}


def close(engine: Engine, found: Any = None, *, day: str = DAY, now: datetime = NOW) -> JobResult:
    """Close the day as a worker does, with ``found`` as the result of the payments."""
    outcome = JobResult(**(found or payments()), record=_record_breaks(day, found))
    run = JobRun(
        id=1, job="daily-reconciliation", shop_id=1, period=day, covers=Covers.DAY,
        zone=ZoneInfo("America/Los_Angeles"), request_id="req-1", work_id=1,
    )  # fmt: skip
    finished = check_day(run, compare=lambda _: outcome, clock=lambda: now)
    assert finished.record is not None
    with transaction(engine) as tx:
        append_all(tx, finished.record(tx).audit, now)
    return finished


def _record_breaks(day: str, found: Any) -> Any:
    def record(tx: Connection) -> FollowUp:
        if found and found["result"] == "breaks":
            tx.execute(
                text(
                    "insert into reconciliation_breaks (shop_id, day, kind, provider_id, theirs, found_at) "
                    "values (1, :day, 'missing_here', 'ch_9', "
                    '\'{"amount_cents": 4200, "currency": "CAD", "status": "paid"}\', :now)'
                ),
                {"day": date.fromisoformat(day), "now": NOW},
            )
        return FollowUp()

    return record


def stock(engine: Engine, sku: str, available: int, reorder_point: int | None, item: int = 1) -> None:
    with transaction(engine) as tx:
        tx.execute(
            text(
                "insert into inventory_levels (shop_id, inventory_item_id, location_id, sku, available, "
                "reorder_point, observed_available, observed_at, changed_at) "
                "values (1, :item, 77, :sku, :available, :point, :available, :now, :now) "
                "on conflict (shop_id, inventory_item_id, location_id) do update "
                "set available = excluded.available"
            ),
            {"item": item, "sku": sku, "available": available, "point": reorder_point, "now": NOW},
        )


def mails(engine: Engine) -> list[str]:
    return [row[0] for row in rows(engine, "select text from mail_outbox order by id")]


def test_day_without_findings_has_a_summary_and_no_mail(shop: Engine) -> None:
    stock(shop, "MUG", 50, 10)

    finished = close(shop)

    assert finished.result == "clean"
    ((summary,),) = rows(shop, SUMMARY)
    assert summary["status"] == summary["payments"] == "clean"
    assert (summary["day"], summary["at"], summary["ours"], summary["breaks"]) == (DAY, NOW.isoformat(), 2, 0)
    assert summary["audit"]["verified"] is True
    assert summary["audit"]["rows"] == 3
    assert summary["low_stock"] == {"count": 0, "levels": []}
    assert mails(shop) == []


def test_summary_counts_the_requests_of_the_shops_own_day(shop: Engine) -> None:
    begins = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)  # midnight in Los Angeles
    with transaction(shop) as tx:
        (slug,) = tx.exec_driver_sql("select slug from shops").one()
        for minutes, name, outcome, status, count in (
            (-1, slug, "accepted", 503, 100),
            (0, slug, "accepted", 200, 40),
            (0, slug, "unavailable", 503, 3),
            (1439, slug, "invalid_signature", 401, 2),
            (60, slug, "paused", 503, 100),
            (60, "other", "unavailable", 503, 100),
            (1440, slug, "accepted", 200, 100),
        ):
            row = {"minute": begins + timedelta(minutes=minutes), "shop": name, "provider": "shopify"}
            row |= {"outcome": outcome, "route": "/webhooks/shopify", "status": status, "count": count}
            tx.execute(insert(request_counts).values(row))

    close(shop)

    ((summary,),) = rows(shop, SUMMARY)
    assert summary["requests"] == {"count": 45, "failed": 3}


def test_breaks_and_low_stock_are_one_mail_and_in_the_summary(shop: Engine) -> None:
    stock(shop, "MUG", 3, 10)

    finished = close(shop, payments("breaks", breaks=1))

    assert finished.result == "breaks"
    assert finished.stats["low_stock"] == 1
    ((summary,),) = rows(shop, SUMMARY)
    assert summary["low_stock"]["levels"][0] == {
        "sku": "MUG", "location_id": 77, "available": 3, "reorder_point": 10, "sold_30d": 0,
        "days_cover": None,
    }  # fmt: skip
    (body,) = mails(shop)
    assert "1 PAYMENT DIFFERS, 1 SKU RUNS LOW" in body
    assert "ch_9" in body
    assert "3 of 10, none sold in 30 days" in body


def test_low_stock_is_mailed_when_it_falls_and_not_every_night(shop: Engine) -> None:
    stock(shop, "MUG", 3, 10)
    close(shop)
    close(shop, day="2026-11-21", now=NOW + timedelta(days=1))
    assert len(mails(shop)) == 1

    stock(shop, "CUP", 1, 2, item=2)
    close(shop, day="2026-11-22", now=NOW + timedelta(days=2))

    assert "CUP" in mails(shop)[1]
    assert "MUG" not in mails(shop)[1]
    assert "In all 2 levels" in mails(shop)[1]


def test_chain_that_was_altered_is_named_in_summary_incident_and_mail(
    shop: Engine, owner_engine: Engine
) -> None:
    with owner_engine.begin() as tx:
        tx.execute(text("update audit_events set staff_label = 'nobody' where shop_id = 1 and seq = 2"))

    finished = close(shop)

    assert finished.result == "audit_failed"
    ((summary,),) = rows(shop, SUMMARY)
    assert summary["audit"]["verified"] is False
    assert "2" in summary["audit"]["findings"][0]
    assert rows(shop, "select rule, period, severity from incidents") == [("audit_chain_failed", DAY, "P1")]
    assert "THE AUDIT RECORD" in mails(shop)[0]


@pytest.mark.parametrize(
    "fault", [Misconfigured("stripe.no_key", "x"), RetryLater("stripe.unavailable", "x")]
)
def test_payments_that_cannot_be_compared_are_reported(shop: Engine, fault: Exception) -> None:
    stock(shop, "MUG", 3, 10)
    run = JobRun(
        id=1, job="daily-reconciliation", shop_id=1, period=DAY, covers=Covers.DAY,
        zone=ZoneInfo("America/Los_Angeles"), request_id="req-1", work_id=1,
    )  # fmt: skip

    def away(_: JobRun) -> JobResult:
        raise fault

    with pytest.raises(type(fault)):
        check_day(run, compare=away, clock=lambda: NOW)

    ((summary,),) = rows(shop, SUMMARY)
    assert (summary["status"], summary["error_code"]) == ("not_compared", getattr(fault, "code"))  # noqa: B009
    assert summary["low_stock"]["count"] == 1
    assert mails(shop) == []

    close(shop)
    assert "MUG" in mails(shop)[0], "the failed try sent no mail, so this one does"


def test_repeated_older_day_keeps_the_newer_summary_and_reports_no_stock(shop: Engine) -> None:
    close(shop)
    stock(shop, "MUG", 3, 10)

    finished = close(shop, day="2026-11-10")

    assert "low_stock" not in finished.stats
    ((summary,),) = rows(shop, SUMMARY)
    assert summary["day"] == DAY
    assert mails(shop) == []


def test_second_run_sends_no_second_mail(shop: Engine) -> None:
    stock(shop, "MUG", 3, 10)
    close(shop)
    close(shop)

    assert len(mails(shop)) == 1
