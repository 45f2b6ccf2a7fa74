"""Job ``monthly-close``: closes a month, stores its package, and mails it to owner and accountant.

The steps survive a crash between them: first the files go into the archive store, the manifest last; then one
transaction writes the row, the corrections and the mails; then old audit events are archived. A run that
finds the row continues after it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection

from services.audit.append import append_all
from services.audit.store import ObjectStore
from services.closing.audit_text import describe_closed_month, describe_late_corrections
from services.closing.corrections import (
    ClosedMonth,
    Correction,
    find_newest_closed,
    list_closed_months,
    list_corrections,
    next_month,
    record_corrections,
    shift_month,
)
from services.closing.inputs import (
    MONTHS_CHECKED,
    find_new_corrections,
    get_close_inputs,
    list_package_corrections,
    use_one_snapshot,
)
from services.closing.month_mail import find_unmailed, plan_attached, record_package_mails
from services.closing.package import MANIFEST_NAME, CloseInputs, ClosePackage, build_package
from services.closing.package_store import find_costs, put_package
from services.closing.totals import Costs
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.audit_jobs import archive_events
from services.jobs.handler import JobResult, Run
from services.ledger.accept import record_work
from services.payments.breaks import lock_payment_periods
from services.providers.object_store import open_store
from services.shops.shops import Shop, get_shop_by_id

JOB = "monthly-close"
_CLOSE = """
insert into closed_periods (shop_id, period, begins_on, ends_before, closed_at, figures, files, manifest_key,
                            manifest_sha256)
values (%(shop_id)s, %(period)s, %(begins_on)s, %(ends_before)s, %(now)s, %(figures)s::jsonb,
        %(files)s::jsonb, %(manifest_key)s, %(manifest_sha256)s)
on conflict (shop_id, period) do nothing
returning period
"""

Corrections = tuple[Sequence[Correction], int]
"""New corrections, and the number of months whose costs of goods are lost from the archive."""


class CloseMonth:
    """The handler of the job; ``clock`` dates the close."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock

    def __call__(self, run: Run) -> JobResult:
        """Close the shop's month, store its package and mail it, each once.

        A closed month does not change: a difference of its figures to today's rows is a correction for the
        open month. Audit events older than 90 days are archived.
        """
        assert run.shop_id is not None  # noqa: S101 - the job is per shop
        store = open_store(get_settings().archive_url)
        with transaction() as tx:
            closed = list_closed_months(tx, run.shop_id, since=run.period, until=run.period)
        if closed:
            late, damaged = self._check_closed(run, run.shop_id, closed[0], store)
            result = "corrected" if late else "unchanged"
        else:
            late, damaged = self._close(run, run.shop_id, store)
            result = "closed"
        with transaction() as tx:
            shop = get_shop_by_id(tx, run.shop_id)
            (month,) = list_closed_months(tx, run.shop_id, since=run.period, until=run.period)
        self._mail_missing(run, shop, month, store)
        recipients = {address.lower() for address in (shop.owner_email, shop.accountant_email) if address}
        archived = archive_events(run)
        counts = month.figures["counts"]
        return JobResult(
            stats={
                "corrections": len(late),
                "damaged_packages": damaged,
                "mails": len(recipients),
                "archived_events": archived.stats["events"],
                "orders": counts.get("orders", 0),
                "lines": counts.get("sale", 0),
                "files": len(month.files) + 1,
                "bytes": sum(int(file["size"]) for file in month.files),
            },
            result=result,
        )

    def _close(self, run: Run, shop_id: int, store: ObjectStore) -> Corrections:
        earlier = _list_checked_months(shop_id, run.period)
        costs = {month.period: find_costs(store, month) for month in earlier}
        with TemporaryDirectory(prefix="shopfleet-close-") as folder:
            with transaction() as tx:
                use_one_snapshot(tx)
                inputs = get_close_inputs(tx, get_shop_by_id(tx, shop_id), run.period, run.zone)
                late = find_new_corrections(tx, shop_id, earlier, costs)
                corrections = list_package_corrections(tx, shop_id, run.period, late)
                package = build_package(tx, inputs, corrections, Path(folder))
            now = self._clock()
            retain_until = now + timedelta(days=get_settings().archive_retain_days)
            key = put_package(store, shop_id, run.period, package, retain_until)
            with transaction() as tx:
                lock_payment_periods(tx, shop_id)
                if _record_closed(tx, inputs, package, key, now):
                    record_corrections(tx, shop_id, run.period, late, now)
                    append_all(tx, [describe_closed_month(run, inputs, package, late)], now)
                    contents = {
                        name: (package.folder / name).read_bytes()
                        for name in plan_attached(
                            [file._asdict() for file in package.files], len(package.manifest)
                        )
                    }
                    _record_mails(tx, run, shop_id, store, contents, now)
        return late, _count_lost(costs)

    def _check_closed(self, run: Run, shop_id: int, closed: ClosedMonth, store: ObjectStore) -> Corrections:
        """Compare the closed figures with today's rows; record the differences."""
        costs = {closed.period: find_costs(store, closed)}
        with transaction() as tx:
            use_one_snapshot(tx)
            late = find_new_corrections(tx, shop_id, [closed], costs)
        if late:
            now = self._clock()
            with transaction() as tx:
                newest = find_newest_closed(tx, shop_id) or closed.period
                found_in = next_month(newest)
                record_corrections(tx, shop_id, found_in, late, now)
                append_all(tx, [describe_late_corrections(run, shop_id, late, found_in)], now)
        return late, _count_lost(costs)

    def _mail_missing(self, run: Run, shop: Shop, closed: ClosedMonth, store: ObjectStore) -> None:
        """Write the mail to each recipient without one."""
        with transaction() as tx:
            unmailed = find_unmailed(tx, shop, run.period)
        if unmailed:
            folder = closed.manifest_key.rpartition("/")[0]
            names = plan_attached(closed.files, len(store.get(closed.manifest_key)))
            contents = {name: store.get(f"{folder}/{name}") for name in names}
            with transaction() as tx:
                _record_mails(tx, run, shop.id, store, contents, self._clock())


def _list_checked_months(shop_id: int, period: str) -> list[ClosedMonth]:
    """Return the closed months before ``period`` that are checked for corrections."""
    with transaction() as tx:
        return list_closed_months(
            tx, shop_id, since=shift_month(period, -MONTHS_CHECKED), until=shift_month(period, -1)
        )


def _count_lost(costs: Mapping[str, Costs | None]) -> int:
    return sum(found is None for found in costs.values())


def _record_closed(
    tx: Connection, inputs: CloseInputs, package: ClosePackage, manifest_key: str, now: datetime
) -> bool:
    """Write the row of the closed month; return False if it exists."""
    zone: ZoneInfo = inputs.zone
    values = {
        "shop_id": inputs.shop_id,
        "period": inputs.period,
        "begins_on": inputs.month.begins.astimezone(zone).date(),
        "ends_before": inputs.month.ends.astimezone(zone).date(),
        "now": now,
        "figures": orjson.dumps(package.figures).decode(),
        "files": orjson.dumps([file._asdict() for file in package.files]).decode(),
        "manifest_key": manifest_key,
        "manifest_sha256": package.sha256,
    }
    return tx.exec_driver_sql(_CLOSE, values).first() is not None


def _record_mails(
    tx: Connection, run: Run, shop_id: int, store: ObjectStore, contents: dict[str, bytes], now: datetime
) -> None:
    shop = get_shop_by_id(tx, shop_id)
    (closed,) = list_closed_months(tx, shop_id, since=run.period, until=run.period)
    work = record_package_mails(
        tx,
        shop,
        closed,
        list_corrections(tx, shop_id, found_in=run.period),
        contents,
        find_unmailed(tx, shop, run.period),
        f"{closed.manifest_key.removesuffix(MANIFEST_NAME)} in {store.describe()}",
        now,
        request_id=run.request_id,
    )
    record_work(tx, work, now)
