"""Figures of conversations: the canvas cache, drift, merchants without a page, steps that fail."""

from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.alerts.figures import Figure, Figures, make_figure
from services.conversations.ai_steps import TOPICS as AI_TOPICS
from services.conversations.cache import count_entries
from services.conversations.drift import count_without_page, read_drift
from services.core.pg_arrays import text_array
from services.ledger.steps import WORKFLOWS

WINDOW = timedelta(days=30)
DRIFT_WINDOW = timedelta(days=2)
"""An older comparison is no figure of today; another rule fires if the job does not run."""
NEW_FOR = timedelta(days=1)
"""A merchant so new may wait for its page."""
FEWEST = 20
"""Of fewer entries no share is computed: one of them would be much."""

_INVALIDATED = """
select count(*) as value, v.shop_id, v.merchant_id::text as subject, max(v.at) as since, m.uuid::text as uuid
  from canvas_invalidations v join merchants m on m.id = v.merchant_id
 where v.at > %(since)s and m.redacted_at is null group by v.shop_id, v.merchant_id, m.uuid
"""

# The predicate is that of a partial index. An item that was only deferred is ``pending``.
_FAILING = """
select count(*) as value, shop_id, topic as subject, topic, max(id) as last_id,
       mode() within group (order by error_code) as code
  from work_queue
 where status in ('pending', 'error') and locked_at is null and topic = any(%(topic)s::text[])
   and status = 'error'
 group by shop_id, topic
"""
_TOPICS = sorted({"contact_ingest", *AI_TOPICS.values()}.union(*(one.steps for one in WORKFLOWS.values())))


def collect_figures(tx: Connection, now: datetime) -> Figures:
    """Return the invalidations of each merchant in 30 days, and the shares of each shop, in percent."""
    rows = tx.exec_driver_sql(_INVALIDATED, {"since": now - WINDOW})
    counts = [one for one in count_entries(tx, None, now) if one.entries - one.negative >= FEWEST]
    shares = {"canvas_stale": ("stale", "stale_ratio"), "canvas_expiring": ("expiring", "expiring_ratio")}
    found = {
        rule: [
            Figure(
                100 * getattr(one, ratio),
                one.shop_id,
                detail={name: getattr(one, name), "entries": one.entries - one.negative},
            )
            for one in counts
        ]
        for rule, (name, ratio) in shares.items()
    }
    drift = [
        _make_share(row.shop_id, sum(row.stats.values()) - row.stats["pages"], row.stats["pages"], "pages")
        for row in read_drift(tx, now - DRIFT_WINDOW)
        if row.stats.get("pages", 0) >= FEWEST
    ]
    without = [
        _make_share(row.shop_id, row.without, row.merchants, "merchants")
        for row in count_without_page(tx, now - NEW_FOR)
        if row.merchants >= FEWEST
    ]
    failing = tx.exec_driver_sql(_FAILING, {"topic": text_array(_TOPICS)})
    return {
        "canvas_invalidated": [make_figure(row) for row in rows],
        "conversations_failing": [make_figure(row) for row in failing],
        **found,
        "notion_drift": drift,
        "merchants_without_page": without,
    }


def _make_share(shop_id: int, part: int, whole: int, unit: str) -> Figure:
    return Figure(100 * part / whole, shop_id, detail={"part": part, unit: whole})
