"""Job ``daily-reconciliation``: a shop's day of payments is held against Stripe's own lists.

Nothing is open while Stripe is asked: its lists go into a file first, then into PostgreSQL at once. What a
run finds waits in ``reconciliation_staging`` until the run ends; one that dies leaves no more than that.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, NamedTuple, Protocol
from uuid import uuid4

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.audit.chain import Entry
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.jobs.handler import Run
from services.jobs.schedule import period_bounds
from services.ledger.work import FollowUp
from services.payments.balance import EntriesUnreadable, fetch_balance_entries
from services.payments.break_queries import count_day_breaks
from services.payments.breaks import record_breaks
from services.payments.causes import SuggestCauses, suggest_causes
from services.payments.day import SUBJECTS, Day
from services.payments.match import SideSum, count_found, match_day
from services.payments.match_rules import find_fees
from services.payments.period_lock import lock_books
from services.payments.stripe_key import NO_KEY, find_stripe_key
from services.payments.stripe_rows import ListStripeRows, list_stripe_rows, render_rows
from services.payments.three_way import sum_three_way
from services.payments.unreadable import UnreadableObject, keep_readable, record_unreadable

JOB = "daily-reconciliation"
RULE = "reconciliation_break"
NO_STRIPE = "no_stripe"
"""The verdict, and the figure, of a run that has nothing to compare with."""
SPOOLED_BYTES = 8 * 2**20
"""Stripe's side of the day, beyond which it goes to disk: 60,000 charges."""
READ_BYTES = 256 * 2**10


class PullEntries(Protocol):
    """Brings the balance entries of a window; see ``balance.fetch_balance_entries``."""

    def __call__(
        self, shop_id: int, key: str, base_url: str, begins: datetime, ends: datetime, *, request_id: str
    ) -> int:
        """Raise a ``WorkError`` where Stripe does not answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOutcome:
    """What a day came to. ``verdict`` is ``clean``, ``breaks`` or ``no_stripe``.

    ``stats`` has ``ours``, ``theirs`` (rows), ``breaks``, ``breaks_<kind>`` where there are any,
        and per currency
    what moved: ``charge_cad_cents`` by Stripe's lists, ``our_charge_cad_cents`` by our rows, likewise refund,
    dispute and payout; and the figures of ``three_way.sum_three_way``. ``record`` writes the day's state in
    the transaction that ends the run.
    """

    verdict: str
    stats: Mapping[str, int]
    record: Callable[[Connection], FollowUp] = field(default=lambda _: FollowUp())


class _Found(NamedTuple):
    """Where the finds of one comparison lie, and whose they are."""

    day: Day
    token: str
    now: datetime
    request_id: str


def reconcile_day(
    run: Run,
    *,
    list_stripe_rows: ListStripeRows = list_stripe_rows,
    pull_entries: PullEntries = fetch_balance_entries,
    suggest_causes: SuggestCauses = suggest_causes,
    clock: Callable[[], datetime] = utc_now,
) -> DayOutcome:
    """Compare ``run``'s shop and day with Stripe; nothing of the day's state is changed until ``record``.

    Opens its own transactions, and brings the day's balance entries on the way: after the comparison, so that
    a fee that Stripe tells differently is found before it is put right. An object of Stripe's that cannot be
    read is a break of its own, and everything else is compared. A shop that has nothing to do with
    Stripe is ``no_stripe``. Raises ``Misconfigured`` for one that takes Stripe's webhooks and has no key, and
    whatever ``WorkError`` Stripe's answers are. Safe to repeat.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    shop_id, request_id = run.shop_id, run.request_id
    begins, ends = period_bounds(run.covers, run.period, run.zone)
    whole = Day(shop_id, date.fromisoformat(run.period), begins, ends)
    with transaction() as tx:
        key = find_stripe_key(tx, shop_id)
        if key is None:
            if tx.exec_driver_sql(_HAS_ROWS, whole._asdict()).scalar():
                raise Misconfigured("stripe.no_key", NO_KEY)
            return DayOutcome(verdict=NO_STRIPE, stats={"ours": 0, "theirs": 0, "breaks": 0, NO_STRIPE: 1})
    base_url, found = get_settings().stripe_api_base, _Found(whole, uuid4().hex, clock(), request_id)
    unreadable: list[UnreadableObject] = []
    readable = keep_readable(list_stripe_rows(key, base_url, whole), unreadable)
    with spooled(render_rows(readable)) as theirs, transaction() as tx:
        sums = match_day(tx, whole, read_spooled(theirs), token=found.token, now=found.now)
    try:
        pull_entries(shop_id, key, base_url, whole.begins, whole.ends, request_id=request_id)
    except EntriesUnreadable as fault:
        unreadable += fault.objects
    with transaction() as tx:
        record_unreadable(tx, whole, found.token, unreadable, found.now)
        find_fees(tx, whole, found.token, found.now)
        breaks = count_found(tx, whole, found.token)
        third = sum_three_way(tx, shop_id, whole.begins, whole.ends)
    if breaks:
        suggest_causes(key, base_url, whole, found.token, found.now)
    return DayOutcome(
        verdict="breaks" if breaks else "clean",
        stats={**_count(sums, breaks), **third},
        record=partial(_record, found),
    )


_HAS_ROWS = """
select exists (select 1 from transactions where shop_id = %(shop_id)s and occurred_at >= %(begins)s
                  and occurred_at < %(ends)s)
"""


@contextmanager
def spooled(blocks: Iterable[bytes]) -> Iterator[IO[bytes]]:
    """Yield all of ``blocks`` as a file: a small day's is in memory, a large one's on disk."""
    with SpooledTemporaryFile(max_size=SPOOLED_BYTES, prefix="shopfleet-") as kept:
        for block in blocks:
            kept.write(block)
        kept.seek(0)
        yield kept


def read_spooled(kept: IO[bytes]) -> Iterator[bytes]:
    """Yield what ``spooled`` kept, a bounded block at a time."""
    while block := kept.read(READ_BYTES):
        yield block


def _count(sums: Iterable[SideSum], breaks: Mapping[str, int]) -> dict[str, int]:
    counts = {"ours": 0, "theirs": 0, "breaks": sum(breaks.values())}
    cents: dict[str, int] = {}
    for part in sums:
        counts[part.side] += part.rows
        if part.kind in SUBJECTS and part.cents:
            side = "our_" if part.side == "ours" else ""
            cents[f"{side}{part.kind}_{part.currency.lower()}_cents"] = part.cents
    return {**counts, **{f"breaks_{kind}": n for kind, n in breaks.items()}, **dict(sorted(cents.items()))}


def _record(found: _Found, tx: Connection) -> FollowUp:
    """The day's open breaks are exactly those found, and its incident says so or is resolved."""
    day = found.day
    lock_books(tx, day.shop_id)
    changed = record_breaks(tx, day, found.token, found.now)
    _record_incident(tx, day, found.now)
    entry = Entry(day.shop_id, f"job {JOB}", "reconcile", found.request_id, changed)
    return FollowUp((), [entry] if changed else ())


def _record_incident(tx: Connection, day: Day, now: datetime) -> None:
    """One incident for the shop and the day, whatever the number of its breaks and of its runs."""
    counts, period = count_day_breaks(tx, day.shop_id, day.day), day.day.isoformat()
    if not counts:
        resolve_incident(tx, day.shop_id, RULE, period, now, "(the day agrees with Stripe now)")
        return
    words = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    summary = (
        f"{sum(counts.values())} payments of {period} do not agree with Stripe: {words}. "
        f"`fleet payments breaks --day {period}` shows them, `fleet payments repair` mends what it can"
    )
    record_incidents(tx, [Incident(day.shop_id, RULE, period, "P2", summary, counts)], now)
