"""One line a shop: its work, last webhook, last reconciliation, broken connections and open incidents; the
worst first.

Every query is bounded: it reads one row a shop, or at most ``MAX_ROWS`` of the newest rows.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

MAX_ROWS = 100_000
WEBHOOKS_SINCE = timedelta(days=7)

_FIND_SHOPS = """
select s.id, s.slug, s.name, c.settings -> 'backfill' ->> 'catalogue_read_at' as catalogue_read_at,
       exists (select from shop_secrets k where k.shop_id = s.id and k.name = 'shopify-token') as has_token,
       r.period, r.status as run_status
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

_FIND_BROKEN = """
select shop_id, string_agg(provider || ': ' || code, ', ' order by provider) as broken
  from connections
 where status = 'broken' and shop_id is not null
   and not (provider = 'shopify' and not exists (
         select from shop_secrets k where k.shop_id = connections.shop_id and k.name = 'shopify-token'))
 group by shop_id
"""

# By the index of open incidents.
_FIND_INCIDENTS = """
select shop_id, severity, count(*) as open_count,
       array_agg(distinct split_part(rule, ':', 1) order by split_part(rule, ':', 1)) as rules
  from incidents where status = 'open' and shop_id is not null
 group by shop_id, severity order by severity
"""

STATES = ("broken", "failing", "ai_at_cap", "incident", "retrying", "incomplete", "ok")
"""The state of a shop, the worst first: a provider refuses its credential; work is dead, the last
reconciliation failed or a P1 is open; AI costs have reached the cap; a P2 is open; work failed and will be
tried again; it is not connected to Shopify, or its catalogue is not read yet; none of these."""


class ShopLine(NamedTuple):
    """A shop's line. ``webhook_at`` is None if its last webhook, if any, is older than ``webhooks_since``."""

    shop: str
    name: str
    state: str
    why: str
    """What the state is about, in a few words; empty if it is ``ok``."""
    webhook_at: datetime | None
    webhooks_since: datetime
    waiting: int
    error: int
    dead: int
    reconciled_day: str
    reconciliation: str
    broken: str
    incidents: Mapping[str, int]
    """How many are open, by severity."""


class ShopOverview(NamedTuple):
    """A line for each shop, the worst first, and by removed shop its webhooks since ``WEBHOOKS_SINCE``."""

    lines: list[ShopLine]
    ignored: dict[str, int]


def read_shop_overview(
    tx: Connection, now: datetime, most: int = MAX_ROWS, at_cap: Mapping[str, str] = {}
) -> ShopOverview:
    """Return the overview; counts of work are exact up to ``most`` open items.

    ``at_cap`` has a text for each shop, by slug, whose AI costs have reached its cap.
    """
    values = {"most": most, "since": now - WEBHOOKS_SINCE}
    work = {row.shop_id: row for row in tx.exec_driver_sql(_COUNT_WORK, values)}
    broken: Mapping[int, str] = {row.shop_id: row.broken for row in tx.exec_driver_sql(_FIND_BROKEN)}
    incidents: dict[int, list[Row[Any]]] = {}
    for row in tx.exec_driver_sql(_FIND_INCIDENTS):
        incidents.setdefault(row.shop_id, []).append(row)
    webhooks = tx.exec_driver_sql(_FIND_WEBHOOKS, values).all()
    is_cut = bool(webhooks) and webhooks[0].row_count >= most
    since = webhooks[0].earliest if is_cut else now - WEBHOOKS_SINCE
    seen = {row.shop: row.at for row in webhooks}
    lines = [
        _plan_line(
            shop,
            work.get(shop.id),
            seen.get(shop.slug),
            since,
            broken.get(shop.id, ""),
            at_cap.get(shop.slug, ""),
            incidents.get(shop.id, ()),
        )
        for shop in tx.exec_driver_sql(_FIND_SHOPS)
    ]
    ignored = {row.shop: row.ignored for row in sorted(webhooks) if row.ignored}
    return ShopOverview(sorted(lines, key=_sort_key), ignored)


def _plan_line(
    shop: Row[Any],
    work: Row[Any] | None,
    webhook_at: datetime | None,
    since: datetime,
    broken: str,
    at_cap: str,
    incidents: Sequence[Row[Any]],
) -> ShopLine:
    waiting, error, dead = (work.waiting, work.error, work.dead) if work else (0, 0, 0)
    by_severity = {row.severity: _describe(row) for row in incidents}
    p1, p2 = by_severity.get("P1", ""), by_severity.get("P2", "")
    causes = (
        ("broken", broken, broken),
        ("failing", dead, f"{dead:,} dead"),
        ("failing", shop.run_status == "failed", f"reconciliation of {shop.period} failed"),
        ("failing", p1, p1),
        ("ai_at_cap", at_cap, at_cap),
        ("incident", p2, p2),
        ("retrying", error, f"{error:,} failed, to be tried again"),
        ("incomplete", not shop.has_token, "no shopify-token"),
        ("incomplete", shop.catalogue_read_at is None, "its catalogue is not read yet"),
        ("ok", True, ""),
    )
    state, _, why = next(cause for cause in causes if cause[1])
    return ShopLine(
        shop.slug, shop.name, state, why, webhook_at, since, waiting, error, dead,
        shop.period or "", shop.run_status or "", broken,
        {row.severity: row.open_count for row in incidents},
    )  # fmt: skip


def _describe(found: Row[Any]) -> str:
    noun = "incident" if found.open_count == 1 else "incidents"
    return f"{found.open_count:,} {noun} ({found.severity}): {', '.join(found.rules)}"


def _sort_key(line: ShopLine) -> tuple[int, int, int, int, str]:
    return STATES.index(line.state), -line.dead, -line.error, -line.waiting, line.shop
