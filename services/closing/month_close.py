"""Job ``monthly-close``: closes a month, stores its package, and mails it to owner and accountant.

A run may crash between the steps and be repeated. First it stores the files in the archive store, the
manifest last. Then one transaction writes the row, the corrections and the mails. Then it archives old audit
events. A run that finds the row continues after it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from services.audit.append import AuditEntry, Mutation, append_all
from services.audit.queries import use_snapshot
from services.audit.store import ObjectStore
from services.closing.corrections import (
    ClosedMonth,
    Correction,
    find_closed_month,
    find_new_corrections,
    list_checked_months,
    list_closed_months,
    list_corrections,
    merge_corrections,
    record_corrections,
    shift_month,
)
from services.closing.month_mail import list_attached_files, list_unmailed_recipients, record_package_mails
from services.closing.month_package import ClosePackage, build_package, find_costs, put_package
from services.closing.profit_and_loss import net_sales
from services.closing.totals import Costs
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.audit_jobs import archive_events
from services.jobs.handler import JobResult, JobRun
from services.ledger.audit_text import format_money, format_money_change
from services.payments.breaks import lock_payment_periods
from services.payments.tables import closed_periods
from services.providers.object_store import open_store
from services.shops.shops import Shop, get_shop_by_id

JOB = "monthly-close"
MAX_AUDITED = 200
"""Corrections that one audit entry lists; the others are counted."""


def close_month(run: JobRun, *, clock: Callable[[], datetime] = utc_now) -> JobResult:
    """Close the shop's month, store its package and mail it, each once; ``clock`` dates the close.

    For a closed month, records the differences to today's rows as corrections of the open month. Archives
    audit events older than 90 days.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    store = open_store(get_settings().archive_url)
    with transaction() as tx:
        shop = get_shop_by_id(tx, run.shop_id)
        closed = find_closed_month(tx, shop.id, run.period)
        checked = [closed] if closed else list_checked_months(tx, shop.id, run.period)
    costs = {month.period: find_costs(store, month) for month in checked}
    if closed:
        found = _check_closed(run, shop.id, closed, costs, clock)
        result = "corrected" if found else "unchanged"
    else:
        found = _close(run, shop, store, checked, costs, clock)
        result = "closed"
    with transaction() as tx:
        (month,) = list_closed_months(tx, shop.id, since=run.period, until=run.period)
        unmailed = list_unmailed_recipients(tx, shop, run.period)
    if unmailed:
        names = list_attached_files(month.files, len(store.get(month.manifest_key)))
        contents = {name: store.get(month.folder + name) for name in names}
        with transaction() as tx:
            record_package_mails(tx, run, contents, clock())
    recipients = {address.lower() for address in (shop.owner_email, shop.accountant_email) if address}
    archived = archive_events(run)
    counts = month.figures["counts"]
    return JobResult(
        stats={
            "corrections": len(found),
            "damaged_packages": sum(found is None for found in costs.values()),
            "mails": len(recipients),
            "archived_events": archived.stats["events"],
            "orders": counts.get("orders", 0),
            "lines": counts.get("sale", 0),
            "files": len(month.files) + 1,
            "bytes": sum(int(file["size"]) for file in month.files),
        },
        result=result,
    )


def _close(
    run: JobRun,
    shop: Shop,
    store: ObjectStore,
    earlier: Sequence[ClosedMonth],
    costs: Mapping[str, Costs | None],
    clock: Callable[[], datetime],
) -> Sequence[Correction]:
    """Store the package and record the month; return the corrections of ``earlier`` months."""
    with TemporaryDirectory(prefix="shopfleet-close-") as folder:
        with transaction() as tx:
            use_snapshot(tx)
            found = find_new_corrections(tx, shop.id, earlier, costs)
            corrections = merge_corrections(list_corrections(tx, shop.id, found_in=run.period), found)
            package = build_package(tx, shop, run.period, run.zone, corrections, Path(folder))
        now = clock()
        retain_until = now + timedelta(days=get_settings().archive_retain_days)
        key = put_package(store, shop.id, run.period, package, retain_until)
        with transaction() as tx:
            lock_payment_periods(tx, shop.id)
            if _record_closed(tx, shop.id, run.period, package, key, now):
                record_corrections(tx, shop.id, run.period, found, now)
                closed = _describe_closed(run.period, shop.currency, package)
                append_all(tx, [_audit_entry(run, [closed, *_describe_each(found, run.period)])], now)
                names = list_attached_files(package.files, len(package.manifest))
                contents = {name: (package.folder / name).read_bytes() for name in names}
                record_package_mails(tx, run, contents, now)
    return found


def _check_closed(
    run: JobRun,
    shop_id: int,
    closed: ClosedMonth,
    costs: Mapping[str, Costs | None],
    clock: Callable[[], datetime],
) -> Sequence[Correction]:
    """Compare the closed figures with today's rows; record the differences and return them."""
    with transaction() as tx:
        use_snapshot(tx)
        found = find_new_corrections(tx, shop_id, [closed], costs)
    if found:
        now = clock()
        with transaction() as tx:
            newest = list_closed_months(tx, shop_id, since=closed.period)[-1]
            found_in = shift_month(newest.period, 1)
            record_corrections(tx, shop_id, found_in, found, now)
            append_all(tx, [_audit_entry(run, _describe_each(found, found_in))], now)
    return found


def _record_closed(
    tx: Connection, shop_id: int, period: str, package: ClosePackage, manifest_key: str, now: datetime
) -> bool:
    """Write the row of the closed month; return False if it exists."""
    closed = insert(closed_periods).values(
        shop_id=shop_id,
        period=period,
        begins_on=date.fromisoformat(f"{period}-01"),
        ends_before=date.fromisoformat(f"{shift_month(period, 1)}-01"),
        closed_at=now,
        figures=package.figures,
        files=package.files,
        manifest_key=manifest_key,
        manifest_sha256=package.sha256,
    )
    recorded = tx.execute(closed.on_conflict_do_nothing().returning(closed_periods.c.period))
    return recorded.first() is not None


def _audit_entry(run: JobRun, mutations: Sequence[Mutation]) -> AuditEntry:
    return AuditEntry(run.shop_id, f"job {run.job}", "month_close", run.request_id, mutations)


def _describe_closed(period: str, currency: str, package: ClosePackage) -> Mutation:
    """Return ``closed 2026-10: net sales 202.20 CAD, 5 files, manifest 9f2c5d0e1a2b``."""
    sales = net_sales(package.figures["accounts"].get(currency, {}))
    summary = (
        f"closed {period}: net sales {format_money(sales, currency)}, "
        f"{format_count(len(package.files), 'file')}, manifest {package.sha256[:12]}"
    )
    after = {"manifest_sha256": package.sha256, "files": package.files}
    return Mutation("closed_periods", period, summary, None, after)


def _describe_each(found: Sequence[Correction], found_in: str) -> list[Mutation]:
    table = "period_corrections"
    mutations = [
        Mutation(
            table,
            f"{c.period}:{c.account}:{c.currency}",
            f"{c.period} {c.account}: {format_money_change(c.before, c.after, c.currency)}, "
            f"in the package of {found_in}",
            {"cents": c.before},
            {"cents": c.after},
        )
        for c in found[:MAX_AUDITED]
    ]
    if (left := len(found) - MAX_AUDITED) > 0:
        mutations.append(
            Mutation(table, found_in, f"and {format_count(left, 'more correction')}", None, None)
        )
    return mutations
