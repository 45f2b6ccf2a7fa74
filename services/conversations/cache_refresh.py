"""Keeps the canvas cache fresh: copies to Valkey, refreshes before entries expire, invalidations."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.conversations.cache import SHORTEST, count_entries, delete_entries, list_entries
from services.conversations.cache_copies import write_copies
from services.conversations.cache_lookup import refresh_entry
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction_or_plan
from services.core.pg_arrays import int_array
from services.jobs.handler import JobResult, JobRun

JOB = "canvas-refresh"
AHEAD = SHORTEST + timedelta(hours=2)
"""Entries with less time left are refreshed: two runs of the job before they have less than ``SHORTEST``."""
USED_WITHIN = timedelta(days=30)
"""A merchant without a call, message or mail for so long is not refreshed: its entry is deleted."""
MOST = 500
"""Merchants of one run: each is one request, and a connection has 180 a minute."""

_FIND_DUE = """
select c.merchant_id, min(c.address) as address from canvas_cache c
 where c.shop_id = %(shop_id)s and c.expires_at <= %(until)s and c.merchant_id <> 0 and c.page_id <> ''
   and exists (select from interactions i where i.shop_id = c.shop_id and i.merchant_id = c.merchant_id
                  and i.occurred_at > %(since)s)
 group by c.merchant_id order by min(c.expires_at), c.merchant_id limit %(limit)s
"""

# Unused entries go before they count as expiring.
_DELETE_UNUSED = """
delete from canvas_cache c where c.shop_id = %(shop_id)s and (
       c.page_id = '' and c.expires_at <= %(now)s
    or c.page_id <> '' and c.expires_at <= %(until)s and not exists (
         select from interactions i where i.shop_id = c.shop_id and i.merchant_id = c.merchant_id
            and i.occurred_at > %(since)s))
"""

_INSERT_INVALIDATION = """
insert into canvas_invalidations (shop_id, merchant_id, at, by)
select %(shop_id)s, merchant_id, %(now)s, %(by)s from unnest(%(merchant_id)s::bigint[]) as merchant_id
"""


class CacheRefresh(NamedTuple):
    """``copied`` None: Valkey does not answer, or there is none. ``gone``: pages that Notion lacks.

    ``left``: entries that expire soon and were not refreshed, one more than was allowed at most.
    """

    copied: int | None = 0
    refreshed: int = 0
    gone: int = 0
    deleted: int = 0
    left: int = 0


def refresh_hourly(run: JobRun) -> JobResult:
    """Refresh the cache of a shop. Raises the ``WorkError`` of a call to Notion; a retry goes on there."""
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    found = refresh_cache(run.shop_id, utc_now())
    stats = {name: value for name, value in found._asdict().items() if value is not None}
    return JobResult(result="more" if found.left else "done", stats=stats)


def refresh_cache(shop_id: int, now: datetime, *, most: int = MOST, is_dry: bool = False) -> CacheRefresh:
    """Copy the shop's entries to Valkey, refresh those that expire soon, delete unused ones.

    ``is_dry`` counts, and leaves out the copies. Raises as ``cache_lookup.get_page`` does.
    """
    values = {"shop_id": shop_id, "until": now + AHEAD, "since": now - USED_WITHIN, "now": now}
    with transaction_or_plan(dry_run=is_dry) as tx:
        deleted = tx.exec_driver_sql(_DELETE_UNUSED, values).rowcount
        due = tx.exec_driver_sql(_FIND_DUE, values | {"limit": most + 1}).all()
        entries = list_entries(tx, shop_id)
    left = max(0, len(due) - most)
    if is_dry:
        return CacheRefresh(refreshed=len(due) - left, deleted=deleted, left=left)
    copied = write_copies(entries, now)
    pages = [refresh_entry((shop_id, row.address), now).page_id for row in due[:most]]
    return CacheRefresh(copied, len(pages), pages.count(""), deleted, left)


def find_ratios(tx: Connection, shop_id: int, now: datetime) -> dict[str, float]:
    """Return the stale and the expiring ratio of the shop's entries; 0 without entries."""
    counts = count_entries(tx, shop_id, now)
    stale, expiring = (counts[0].stale_ratio, counts[0].expiring_ratio) if counts else (0.0, 0.0)
    return {"stale_ratio": round(stale, 4), "expiring_ratio": round(expiring, 4)}


def describe_refresh(
    found: CacheRefresh, before: Mapping[str, float], after: Mapping[str, float]
) -> Mutation:
    """Return what the audit contains of a refresh by a person, with the ratios before and after."""
    count = format_count(found.refreshed, "page")
    ratios = "; ".join(f"{name.replace('_', ' ')} {before[name]:.1%} -> {after[name]:.1%}" for name in before)
    summary = f"read {count} of the canvas cache again, {found.gone} of them gone: {ratios}"
    return Mutation("canvas_cache", count, summary, dict(before), {**after, **found._asdict()})


class Invalidation(NamedTuple):
    """``addresses``: whose copies are to be deleted after the commit (``cache_copies.delete_copies``).

    ``without_entry``: those of them that had no entry, so nothing was counted.
    """

    addresses: list[str]
    without_entry: list[str]
    merchants: list[int]
    mutation: Mutation


def invalidate(
    tx: Connection, shop_id: int, addresses: Collection[str], by: str, now: datetime
) -> Invalidation:
    """Delete the entries with all others of their merchants, and count one invalidation of each merchant.

    The next use reads Notion.
    """
    deleted = delete_entries(tx, shop_id, addresses)
    merchants = sorted(set(deleted.values()) - {0})
    values = {"shop_id": shop_id, "merchant_id": int_array(merchants), "now": now, "by": by}
    tx.exec_driver_sql(_INSERT_INVALIDATION, values)
    count = format_count(len(deleted), "entry", "entries")
    named = ", ".join(map(str, merchants)) or "none"
    summary = f"invalidated {count} of the canvas cache, of merchant {named}"
    before, after = {"entries": len(deleted)}, {"entries": 0, "merchants": merchants}
    mutation = Mutation("canvas_cache", named, summary, before, after)
    without_entry = sorted({*addresses} - {*deleted})
    return Invalidation(sorted({*deleted, *addresses}), without_entry, merchants, mutation)
