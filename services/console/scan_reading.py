"""Reads the morning scan of all shops: a fixed number of queries, each bounded by shops or by a limit."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection, Row

from services.console.scan import classify_fleet, classify_shop, find_night, sort_scans
from services.console.scan_facts import BadRun, Night, OpenIncident, ShopFacts, ShopScan, Sources
from services.console.shared_reader import KEEP_SECONDS, QUICK_SECONDS, SharedReader
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.costs.month import MonthCosts
from services.costs.store import list_month_costs
from services.jobs.conditions import FAILED_LINES, OVERDUE_LINES
from services.jobs.store import list_schedules
from services.ledger.work import FLEET
from services.shops.connections import list_connections

MOST = 20_000
"""Most open incidents that are read, the most severe first."""

NIGHT_JOB = "daily-reconciliation"

KEEP_TIMES_COST = 75
"""A reading is reused for this many times its duration: any number of viewers costs less than 2% of a core,
and the database less than 1%, because its statements take about half of it."""

_FIND_SHOPS = """
select s.id, s.slug, s.name, s.timezone, s.created_at,
       (c.last_daily_run - 'low_told' - 'low_stock')::text as last_run,
       exists (select from shop_secrets k
                where k.shop_id = s.id and k.name = 'shopify-token' and k.expires_at is null) as has_token,
       c.settings -> 'backfill' ->> 'catalogue_read_at' is not null as has_catalogue
  from shops s left join shop_config c on c.shop_id = s.id
 where c.settings ->> 'removed_at' is null
"""

# By the partial index of dead and discarded work.
_COUNT_DEAD = """
select shop_id, count(*) as dead, min(coalesce(died_at, finished_at, created_at)) as since from work_queue
 where status in ('dead', 'discarded') and status = 'dead' group by shop_id
"""

_FIND_INCIDENTS = """
select shop_id, id, rule, severity, summary, opened_at, coalesce(snoozed_until > %(now)s, false) as is_quiet
  from incidents where status = 'open' order by severity, id limit %(most)s
"""

_FIND_BAD_RUNS = f"""
select shop_id, name, kind = 'jobs_overdue' as is_late, since
  from ({FAILED_LINES} union all {OVERDUE_LINES}) lines
"""  # noqa: S608 - constants only

_FIND_SOURCES = """
select (select max(computed_at) from rule_evaluations where computed_at <= %(now)s) as rules_at,
       (select at from heartbeats where name = 'beat') as beat_at,
       (select ended_at from job_runs where job = 'audit-verify' and shop_id is null and status = 'done'
         order by due_at desc limit 1) as verified_at
"""


class ScanReading(NamedTuple):
    """The lines of all shops, the worst first, and that of the fleet, as they were ``at``."""

    at: datetime
    sources: Sources
    fleet: ShopScan
    shops: list[ShopScan]


class ScanReader(SharedReader[ScanReading]):
    """Reads the scan for all viewers of a process."""

    def __init__(
        self,
        keep_seconds: float = KEEP_SECONDS,
        keep_times_cost: float = KEEP_TIMES_COST,
        quick_seconds: float = QUICK_SECONDS,
        read: Callable[[], ScanReading] | None = None,
    ) -> None:
        super().__init__(
            "scan",
            read or _read,
            keep_seconds=keep_seconds,
            keep_times_cost=keep_times_cost,
            quick_seconds=quick_seconds,
        )


class _ShopCounts(NamedTuple):
    """What takes the database longest: dead work and costs of the month, by shop."""

    dead: Mapping[int, Row[Any]]
    costs: Mapping[int, Mapping[str, MonthCosts]]


def _read() -> ScanReading:
    """Read the scan with two connections, so that this process works while the database counts."""
    now = utc_now()

    def count() -> _ShopCounts:
        with transaction() as tx:
            return _read_counts(tx, now)

    with ThreadPoolExecutor(1, "scan-counts") as pool:
        counts = pool.submit(count)
        with transaction() as tx:
            return read_scan(tx, now, counts.result)


def _read_counts(tx: Connection, now: datetime) -> _ShopCounts:
    dead = {row.shop_id: row for row in tx.exec_driver_sql(_COUNT_DEAD)}
    costs: dict[int, dict[str, MonthCosts]] = {}
    for month in list_month_costs(tx, now):
        costs.setdefault(month.shop_id, {})[month.kind] = month
    return _ShopCounts(dead, costs)


def read_scan(
    tx: Connection, now: datetime, get_counts: Callable[[], _ShopCounts] | None = None
) -> ScanReading:
    """Return the line of every shop that is not removed, and of the fleet.

    ``get_counts`` returns counts that another connection reads meanwhile.
    """
    shops = tx.exec_driver_sql(_FIND_SHOPS).all()
    incidents: dict[int, list[OpenIncident]] = {}
    found = tx.exec_driver_sql(_FIND_INCIDENTS, {"now": now, "most": MOST}).all()
    for shop_id, *values in found:
        incidents.setdefault(shop_id or FLEET, []).append(OpenIncident(*values))
    bad_runs: dict[int, list[BadRun]] = {}
    for shop_id, *values in tx.exec_driver_sql(_FIND_BAD_RUNS, {"now": now}):
        bad_runs.setdefault(shop_id or FLEET, []).append(BadRun(*values))
    connections: dict[int, list[Any]] = {}
    for one in list_connections(tx):
        connections.setdefault(one.shop_id or FLEET, []).append(one)
    created = {shop.id: shop.created_at for shop in shops}
    nights = _list_nights(tx, created, now)
    row = tx.exec_driver_sql(_FIND_SOURCES, {"now": now}).one()
    sources = Sources(row.rules_at, row.beat_at, is_cut=len(found) == MOST)
    dead, costs = get_counts() if get_counts else _read_counts(tx, now)

    def make_facts(shop_id: int, slug: str, name: str, timezone: str, **values: Any) -> ShopFacts:
        work = dead.get(shop_id)
        return ShopFacts(
            shop_id=shop_id,
            slug=slug,
            name=name,
            timezone=timezone,
            night=nights.get(shop_id, Night(None, None)),
            dead=work.dead if work else 0,
            dead_since=work.since if work else None,
            connections=connections.get(shop_id, ()),
            bad_runs=bad_runs.get(shop_id, ()),
            costs=costs.get(shop_id, {}),
            incidents=incidents.get(shop_id, ()),
            **values,
        )

    fleet = make_facts(FLEET, "", "Fleet", get_settings().fleet_timezone)
    scans = [
        classify_shop(
            make_facts(
                one.id,
                one.slug,
                one.name,
                one.timezone,
                last_run=orjson.loads(one.last_run) if one.last_run else None,
                has_token=one.has_token,
                has_catalogue=one.has_catalogue,
            ),
            sources,
            now,
        )
        for one in shops
    ]
    return ScanReading(now, sources, classify_fleet(fleet, row.verified_at, sources, now), sort_scans(scans))


def _list_nights(tx: Connection, created: Mapping[int, datetime], now: datetime) -> dict[int, Night]:
    """Return for each shop the day that its nightly run must have closed by now."""
    nights: dict[int, Night] = {}
    for one in list_schedules(tx, NIGHT_JOB):
        if one.shop_id is None or one.shop_id not in created:
            continue
        found = find_night(one.schedule, ZoneInfo(one.zone), now - one.job.grace)
        is_due = found is not None and found[0] >= created[one.shop_id]
        day = found[1] if found and is_due else None
        nights[one.shop_id] = Night(day, one.next_due_at, enabled=one.enabled)
    return nights
