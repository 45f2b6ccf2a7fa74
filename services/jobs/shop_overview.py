"""Figures of each shop: its work, last webhook, last reconciliation and open incidents.

Every query is bounded: it reads one row a shop, or at most ``MAX_ROWS`` of the newest rows.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

MAX_ROWS = 100_000
WEBHOOKS_SINCE = timedelta(days=7)

_FIND_SHOPS = """
select s.id, s.slug, r.period, r.status as run_status
  from shops s
  left join shop_config c on c.shop_id = s.id
  left join lateral (select period, status from job_runs
                      where job = 'daily-reconciliation' and shop_id = s.id and ended_at is not null
                      order by due_at desc limit 1) r on true
 where c.settings ->> 'removed_at' is null
"""

# Three scans of the partial indexes of open, locked and dead work.
_COUNT_WORK = """
select shop_id, count(*) filter (where status = 'pending') as waiting,
       count(*) filter (where status = 'error') as error, count(*) filter (where status = 'dead') as dead
  from ((select shop_id, status from work_queue
          where status in ('pending', 'error') and locked_at is null limit %(most)s)
        union all
        (select shop_id, status from work_queue
          where status in ('pending', 'error') and locked_at is not null limit %(most)s)
        union all
        (select shop_id, status from work_queue
          where status in ('dead', 'discarded') and status = 'dead' limit %(most)s)) w
 group by shop_id
"""

_FIND_WEBHOOKS = """
select shop, max(minute) filter (where outcome <> 'ignored') as at,
       coalesce(sum(count) filter (where outcome = 'ignored'), 0)::bigint as ignored,
       min(min(minute)) over () as earliest, sum(count(*)) over () as row_count
  from (select shop, minute, outcome, count from request_counts
         where minute > %(since)s and outcome in ('accepted', 'duplicate', 'ignored')
         order by minute desc limit %(most)s) newest
 group by shop
"""

# By the index of open incidents.
_FIND_INCIDENTS = """
select shop_id, severity, count(*) as open_count from incidents
 where status = 'open' and shop_id is not null group by shop_id, severity order by severity
"""


class ShopFigures(NamedTuple):
    """A shop's figures. ``webhook_at`` is None if no webhook came since ``webhooks_since``."""

    webhook_at: datetime | None
    webhooks_since: datetime
    waiting: int
    error: int
    dead: int
    reconciled_day: str
    reconciliation: str
    incidents: Mapping[str, int]
    """How many are open, by severity."""


class ShopOverview(NamedTuple):
    """The figures of each shop by its id, and by removed shop its webhooks since ``WEBHOOKS_SINCE``."""

    figures: Mapping[int, ShopFigures]
    ignored: Mapping[str, int]


def read_shop_overview(tx: Connection, now: datetime, most: int = MAX_ROWS) -> ShopOverview:
    """Return the overview; counts of work are exact up to ``most`` open items."""
    values = {"most": most, "since": now - WEBHOOKS_SINCE}
    work = {row.shop_id: row for row in tx.exec_driver_sql(_COUNT_WORK, values)}
    incidents: dict[int, dict[str, int]] = {}
    for row in tx.exec_driver_sql(_FIND_INCIDENTS):
        incidents.setdefault(row.shop_id, {})[row.severity] = row.open_count
    webhooks = tx.exec_driver_sql(_FIND_WEBHOOKS, values).all()
    is_cut = bool(webhooks) and webhooks[0].row_count >= most
    since = webhooks[0].earliest if is_cut else now - WEBHOOKS_SINCE
    seen = {row.shop: row.at for row in webhooks}
    figures = {}
    for shop in tx.exec_driver_sql(_FIND_SHOPS):
        counts = work.get(shop.id)
        waiting, error, dead = (counts.waiting, counts.error, counts.dead) if counts else (0, 0, 0)
        figures[shop.id] = ShopFigures(
            webhook_at=seen.get(shop.slug),
            webhooks_since=since,
            waiting=waiting,
            error=error,
            dead=dead,
            reconciled_day=shop.period or "",
            reconciliation=shop.run_status or "",
            incidents=incidents.get(shop.id, {}),
        )
    return ShopOverview(figures, {row.shop: row.ignored for row in sorted(webhooks) if row.ignored})
