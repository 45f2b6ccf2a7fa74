"""Conditions: what needs a person while webhooks are accepted and work runs, gathered from every room.

Each room gives its rows as one statement with the same columns (``PAUSE_LINES`` and its kind): a new
condition is a statement in ``_LINES``. Together they are one statement for the counts, and one for the lines.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.alerts.incidents import OPEN_LINES
from services.jobs.deadman import OVERDUE_LINES
from services.jobs.failed_runs import FAILED_LINES
from services.ledger.health import DEGRADING, Conditions
from services.ledger.pause import PAUSE_LINES
from services.shops.connections import BROKEN_LINES

LINES_PER_KIND = 50
"""Lines shown of one kind, the oldest first; the counts are complete."""

_LINES = " union all ".join((PAUSE_LINES, OPEN_LINES, BROKEN_LINES, FAILED_LINES, OVERDUE_LINES))

_COUNT = f"select kind, label, count(*) from ({_LINES}) lines group by kind, label"  # noqa: S608 - our own texts

_FIND = f"""
select kind, label, name, shop, since, until, by, why from (
  select l.*, coalesce(s.slug, l.shop_id::text) as shop,
         row_number() over (partition by l.kind order by l.since, l.name, l.shop_id) as place
    from ({_LINES}) l left join shops s on s.id = l.shop_id
   where l.kind = any(%(kind)s::text[])
) lines
 where place <= %(most)s order by array_position(%(kind)s::text[], kind), place
"""  # noqa: S608 - the texts are our own


class ConditionLine(NamedTuple):
    """One condition with its place, person and reason: for people who work on the fleet, not for the public.

    ``name`` is a scope, a rule, a provider or a job with its period; ``shop`` is its slug, None: the fleet's.
    """

    kind: str
    label: str
    name: str
    shop: str | None
    since: datetime
    until: datetime | None
    by: str
    why: str


def count_conditions(tx: Connection, now: datetime) -> Conditions:
    """Return the number of conditions by kind and label. Holds no shop, no person and no reason."""
    found: dict[str, dict[str, int]] = {}
    for kind, label, count in tx.exec_driver_sql(_COUNT, {"now": now}):
        found.setdefault(kind, {})[label] = count
    return found


def list_conditions(tx: Connection, now: datetime) -> list[ConditionLine]:
    """Return what degrades the fleet, by kind and oldest first, ``LINES_PER_KIND`` of each kind at most."""
    values = {"now": now, "kind": list(DEGRADING), "most": LINES_PER_KIND}
    return [ConditionLine(*row) for row in tx.exec_driver_sql(_FIND, values)]
