"""Figures of the canvas cache: pages invalidated often, and the shares of stale and expiring entries."""

from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.alerts.figures import Figure, Figures, make_figure
from services.conversations.cache import count_entries

WINDOW = timedelta(days=30)
FEWEST = 20
"""Of fewer entries no share is computed: one of them would be much."""

_INVALIDATED = """
select count(*) as value, v.shop_id, v.merchant_id::text as subject, max(v.at) as since, m.uuid::text as uuid
  from canvas_invalidations v join merchants m on m.id = v.merchant_id
 where v.at > %(since)s and m.redacted_at is null group by v.shop_id, v.merchant_id, m.uuid
"""


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
    return {"canvas_invalidated": [make_figure(row) for row in rows], **found}
