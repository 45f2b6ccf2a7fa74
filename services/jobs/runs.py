"""The evidence that a job ran: one row per (job, shop, period), whoever started it and however often."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

_RECORD_ENDED = """
insert into job_runs as r (job, shop_id, period, started_at, ended_at, status, stats, origin)
values (%(job)s, %(shop_id)s, %(period)s, %(now)s, %(now)s, 'done', %(stats)s::jsonb, %(origin)s)
on conflict (job, shop_id, period) do update set
   ended_at = excluded.ended_at, status = excluded.status, stats = excluded.stats
"""


def record_run_ended(
    tx: Connection,
    *,
    job: str,
    shop_id: int | None,
    period: str,
    now: datetime,
    stats: Mapping[str, Any],
    origin: str = "manual",
) -> None:
    """The run is ``done`` with ``stats``. One that nobody announced gets its row now, with ``origin``."""
    tx.exec_driver_sql(
        _RECORD_ENDED,
        {
            "job": job,
            "shop_id": shop_id,
            "period": period,
            "now": now,
            "stats": orjson.dumps(dict(stats)).decode(),
            "origin": origin,
        },
    )
