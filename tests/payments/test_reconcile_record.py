"""Records of a reconciliation: breaks, audit, incident, corrections of a closed month."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.payments.breaks import MAX_AUDITED, count_day_breaks, list_day_breaks
from tests.payments.day_rows import BEGINS, NOW, row
from tests.payments.reconciled_day import (
    CH_1,
    CH_2,
    CH_3,
    DAY,
    FakeStripeLists,
    add_reconciled_shop,
    compare,
    run,
)
from tests.shopify.sample_payloads import rows


@pytest.fixture
def shop(engine: Engine) -> Engine:
    return add_reconciled_shop(engine)


def test_reopened_break_has_a_new_found_time(shop: Engine) -> None:
    later = NOW + timedelta(hours=2)
    for stripe_rows, now in (([CH_1], NOW), ([CH_1, CH_2], NOW), ([CH_1], later)):
        run(shop, *stripe_rows, now=now)

    assert rows(shop, "select day, kind, closed_at, found_at from reconciliation_breaks") == [
        (DAY, "missing_there", None, later)
    ]


def test_every_break_that_opens_or_closes_is_in_the_audit_once(shop: Engine) -> None:
    cheap = row("ch_1", 900, at=BEGINS)
    for stripe_rows in ([cheap, CH_2], [cheap, CH_2], [CH_1, CH_2]):
        run(shop, *stripe_rows, CH_3)

    assert audit_summaries(shop) == [
        "break found on 2026-11-20: ch_1 (amount), 10.00 CAD paid here, 9.00 CAD paid at Stripe",
        "break closed on 2026-11-20: ch_1 (amount), 10.00 CAD paid here, 9.00 CAD paid at Stripe",
    ]


def audit_summaries(engine: Engine) -> list[str]:
    return [
        summary
        for (summary,) in rows(
            engine,
            "select summary from audit_mutations where table_name like '%break%' order by event_id, place",
        )
    ]


def test_audit_lists_two_hundred_changes_and_counts_the_others(shop: Engine) -> None:
    run(shop, row("ch_1", 900, at=BEGINS), *(row(f"ch_x{n:03}") for n in range(MAX_AUDITED + 5)))

    summaries = audit_summaries(shop)
    assert len(summaries) == MAX_AUDITED + 1
    assert summaries[-1] == "and 7 more breaks found on 2026-11-20"
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
        "2 differences between the payments of 2026-11-20 and Stripe: 1 missing_here, 1 missing_there."
    )
    assert detail == {"missing_here": 1, "missing_there": 1}

    run(shop, CH_1, CH_2)

    ((*_, status, summary, _),) = rows(shop, INCIDENT)
    assert status == "resolved"
    assert summary.startswith("The day agrees with Stripe now. Before: 2 differences between the payments")


def close_month(engine: Engine) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "insert into closed_periods (shop_id, period, begins_on, ends_before, closed_at, figures, files, "
            "manifest_key, manifest_sha256) values (1, '2026-11', '2026-11-01', '2026-12-01', now(), '{}', "
            "'[]', "
            "'', '')"
        )


def open_breaks(engine: Engine, *, only_open: bool = False) -> Sequence[Any]:
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
    assert open_breaks(shop) == [
        ("missing_here", "ch_8", True, True),
        ("missing_here", "ch_9", False, True),
        ("missing_there", "ch_2", False, True),
    ]
    with transaction(shop) as tx:
        assert count_day_breaks(tx, 1, DAY) == {"missing_here": 1}
    assert audit_summaries(shop)[-1].startswith(
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
        outcome = compare(FakeStripeLists())
        assert outcome.record is not None
        outcome.record(tx)
        with shop.connect() as other, other.begin():
            other.exec_driver_sql("set local lock_timeout = '50ms'")
            with pytest.raises(Exception, match="lock timeout"):
                lock_payment_periods(other, 1)
