"""Rule ``pause_long``: one incident per pause that lasts too long, until the pause ends."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents
from services.core.pg_arrays import int_array, text_array
from services.ledger.pause import MODES, Pause, find_pauses

LIMIT = timedelta(hours=4)
"""A pause without an end (``--for``) that is older than this is an incident."""

RULE = "pause_long"

_RESOLVE = """
update incidents i set status = 'resolved', updated_at = %(now)s, summary = i.summary || ' It has ended.'
 where i.status = 'open' and i.rule like 'pause\\_long:%%'
   and not exists (
     select from unnest(%(shop_id)s::int[], %(rule)s::text[], %(period)s::text[]) as v(shop_id, rule, period)
      where v.shop_id is not distinct from i.shop_id and v.rule = i.rule and v.period = i.period)
"""


def record_long_pauses(tx: Connection, now: datetime) -> int:
    """Open an incident for each pause past ``LIMIT``; resolve those of ended pauses. Return the changes."""
    incidents = plan_long_pauses(find_pauses(tx), now)
    in_force = {
        "now": now,
        "shop_id": int_array(i.shop_id for i in incidents),
        "rule": text_array([i.rule for i in incidents]),
        "period": text_array([i.period for i in incidents]),
    }
    return record_incidents(tx, incidents, now) + tx.exec_driver_sql(_RESOLVE, in_force).rowcount


def plan_long_pauses(pauses: Sequence[Pause], now: datetime) -> list[Incident]:
    """Return an incident for each of ``pauses`` that is past ``LIMIT`` at ``now``. Pure."""
    return [
        Incident(
            pause.scope.shop_id,
            f"{RULE}:{'/'.join(filter(None, (pause.scope.queue, pause.scope.topic))) or 'everything'}",
            f"{pause.created_at:%Y-%m-%dT%H:%M:%SZ}",
            "P2",
            f"{pause.scope} is paused ({pause.mode}) since {pause.created_at:%Y-%m-%d %H:%M} UTC by "
            f"{pause.created_by} and has no end: {pause.reason or 'no reason given'}. "
            "End it with `celery -A tasks resume`, or give it an end with `celery -A tasks pause --for 2h`.",
            {"pause": pause.id, "mode": pause.mode},
        )
        for pause in pauses
        if pause.mode in MODES and pause.ends_at is None and now - pause.created_at > LIMIT
    ]
