"""Compares a shop's day of payments with Stripe's lists, for the job ``daily-reconciliation``.

No transaction is open during a call to Stripe: its lists are written to a file, then copied into PostgreSQL.
Breaks stay in ``reconciliation_staging`` until the run ends; a run that crashes leaves nothing else.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.audit.chain import AuditEntry
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.settings import get_settings
from services.core.times import format_time
from services.jobs.handler import JobResult, JobRun
from services.jobs.schedule import day_bounds, period_bounds
from services.ledger.work import FollowUp
from services.payments.balance import fetch_balance_entries
from services.payments.break_causes import suggest_causes
from services.payments.breaks import count_day_breaks, lock_payment_periods, record_breaks
from services.payments.comparison import SUBJECTS, DayComparison
from services.payments.match import count_staged, stage_breaks
from services.payments.match_rules import stage_fees, stage_unreadable
from services.payments.order_charge_payout_sums import sum_orders_charges_payouts
from services.payments.stripe_key import find_stripe_key, no_stripe_key
from services.payments.stripe_lists import UnreadableObject, fetch_stripe_rows, render_rows
from services.shops.secrets import find_secrets
from services.shops.shops import Shop

JOB = "daily-reconciliation"
BREAK_RULE = "reconciliation_break"
NO_STRIPE = "no_stripe"
"""The result, and the key in the stats, of a run for a shop without Stripe."""
SPOOLED_BYTES = 8 * 2**20
"""Size of Stripe's rows above which they are written to disk: 60,000 charges."""
READ_BYTES = 256 * 2**10

_HAS_ROWS = """
select exists (select 1 from transactions where shop_id = %(shop_id)s and occurred_at >= %(begins)s
                  and occurred_at < %(ends)s)
"""

_FIND_RUN = """
select r.status, r.stats, coalesce(r.error, w.error_code || ': ' || w.last_error, '') as error
  from job_runs r
  left join work_queue w on w.id = r.work_id and w.status in ('pending', 'error')
 where r.job = %(job)s and r.shop_id = %(shop_id)s and r.period = %(period)s
"""


def reconcile_day(run: JobRun, *, clock: Callable[[], datetime] = utc_now) -> JobResult:
    """Compare ``run``'s shop and day with Stripe: ``clean``, ``breaks`` or ``no_stripe``.

    Records the day's balance entries after the comparison, so that a differing fee is found before it is
    corrected. An object that cannot be read is a break. Raises ``Misconfigured`` if a shop with Stripe's
    webhooks or payments has no key, and the ``WorkError`` of a call. Safe to repeat.

    The day's breaks and its incident do not change until ``record``. ``stats`` has ``ours`` and ``theirs``
    (rows recorded and listed), ``breaks``, ``breaks_<kind>`` above zero, the money moved per currency
    (``charge_cad_cents`` at Stripe, ``our_charge_cad_cents`` recorded, likewise refund, dispute and payout),
    and the figures of ``sum_orders_charges_payouts``.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    begins, ends = period_bounds(run.covers, run.period, run.zone)
    day = DayComparison(
        run.shop_id, date.fromisoformat(run.period), begins, ends, uuid4().hex, clock(), run.request_id
    )
    with transaction() as tx:
        key = find_stripe_key(tx, day.shop_id)
        if key is None:
            if tx.exec_driver_sql(_HAS_ROWS, day._asdict()).scalar():
                raise no_stripe_key(tx, day.shop_id)
            return JobResult(result=NO_STRIPE, stats={"ours": 0, "theirs": 0, "breaks": 0, NO_STRIPE: 1})
    base_url = get_settings().stripe_api_base
    unreadable: list[UnreadableObject] = []
    with SpooledTemporaryFile(max_size=SPOOLED_BYTES, prefix="shopfleet-") as file:
        file.writelines(render_rows(fetch_stripe_rows(key, base_url, day, unreadable)))
        file.seek(0)
        with transaction() as tx:
            sums = stage_breaks(tx, day, iter(partial(file.read, READ_BYTES), b""))
    fetch_balance_entries(
        day.shop_id, key, base_url, begins, ends, request_id=day.request_id, unreadable=unreadable
    )
    with transaction() as tx:
        stage_unreadable(tx, day, unreadable)
        stage_fees(tx, day)
        breaks = count_staged(tx, day)
        three_way = sum_orders_charges_payouts(tx, day.shop_id, begins, ends)
    if breaks:
        suggest_causes(key, base_url, day)
    return JobResult(
        result="breaks" if breaks else "clean",
        stats={**_make_stats(sums, breaks), **three_way},
        record=partial(_record, day),
    )


def _make_stats(sums: Iterable[Row[Any]], breaks: Mapping[str, int]) -> dict[str, int]:
    counts = {"ours": 0, "theirs": 0, "breaks": sum(breaks.values())}
    cents: dict[str, int] = {}
    for part in sums:
        counts[part.side] += part.rows
        if part.kind in SUBJECTS and part.cents:
            prefix = "our_" if part.side == "ours" else ""
            cents[f"{prefix}{part.kind}_{part.currency.lower()}_cents"] = part.cents
    return {**counts, **{f"breaks_{kind}": n for kind, n in breaks.items()}, **dict(sorted(cents.items()))}


def _record(day: DayComparison, tx: Connection) -> FollowUp:
    """Make the staged breaks the day's open breaks; record or resolve the day's one incident."""
    lock_payment_periods(tx, day.shop_id)
    mutations = record_breaks(tx, day)
    counts, period = count_day_breaks(tx, day.shop_id, day.day), day.day.isoformat()
    if counts:
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        summary = (
            f"{format_count(sum(counts.values()), 'difference')} between the payments of {period} and "
            f"Stripe: {kinds}. "
            f"`fleet payments breaks --day {period}` lists them, `fleet payments repair` repairs what it can"
        )
        record_incidents(tx, [Incident(day.shop_id, BREAK_RULE, period, "P2", summary, counts)], day.now)
    else:
        resolve_incident(tx, day.shop_id, BREAK_RULE, period, day.now, "The day agrees with Stripe now.")
    entry = AuditEntry(day.shop_id, f"job {JOB}", "reconcile", day.request_id, mutations)
    return FollowUp((), [entry] if mutations else ())


def find_not_compared(tx: Connection, shop: Shop, day: date) -> str:
    """Return why ``day`` was not compared with Stripe, and the next command; empty if it was compared."""
    period = day.isoformat()
    rerun = f"`fleet jobs run {JOB} --shop {shop.slug} --period {period}`"
    values = {"job": JOB, "shop_id": shop.id, "period": period}
    run = tx.exec_driver_sql(_FIND_RUN, values).first()
    if run is None:
        ends = day_bounds(shop.zone, day)[1]
        if ends <= shop.created_at:
            added = shop.created_at.astimezone(shop.zone).date().isoformat()
            return f"the shop was added on {added}, after that day; to compare it, {rerun}"
        if ends > utc_now():
            rerun = f"the day ends {format_time(ends, shop.zone)}"
        return f"no run of {JOB} has taken place for it: {rerun}"
    error = f" ({run.error})" if run.error else ""
    if run.status == "done":
        if not run.stats.get(NO_STRIPE):
            return ""
        why = "its run took place before the shop's stripe-key was recorded; to compare it"
        if not find_secrets(tx, [(shop.id, "stripe-key")]):
            record = f"`fleet shops secret {shop.slug} stripe-key --stdin`"
            why = f"the shop has no stripe-key and no payments of Stripe; to record a key, {record}; then"
        return f"{why} {rerun[:-1]} --again`"
    if run.status in ("pending", "running"):
        state = "waits" if run.status == "pending" else "has started and not finished"
        return f"its run {state}{error}; see `fleet jobs history {JOB} --shop {shop.slug}`"
    verb = "was skipped" if run.status == "skipped" else "failed"
    return f"its run {verb}{error}; correct the cause, then {rerun}"
