"""Product analytics: every ended run is one PostHog event, sent as work of the ledger."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from sqlalchemy import Row

from services.core.settings import get_settings
from services.ledger.work import FLEET, NewWork

NAMESPACE = UUID("0c1f2a53-6d0e-4a35-9a80-3a1f0f5b7d21")
"""An event's uuid is derived from its run under this name: PostHog drops a second event of the same uuid."""


class EndedRun(NamedTuple):
    """A run that has ended; ``seconds`` count from its first start."""

    id: int
    job: str
    shop_id: int | None
    period: str
    origin: str
    started_by: str
    request_id: str
    work_id: int | None
    status: str
    seconds: float


def to_ended_run(row: Row[Any]) -> EndedRun:
    """Return the run of a row that has its columns, among others."""
    return EndedRun._make(getattr(row, name) for name in EndedRun._fields)


def plan_completed(run: EndedRun, stats: Mapping[str, Any], now: datetime) -> list[NewWork]:
    """Return the work that sends the event of ``run`` to PostHog; none without ``POSTHOG_KEY``."""
    if not get_settings().posthog_key:
        return []
    shop = "fleet" if run.shop_id is None else f"shop-{run.shop_id}"
    payload = {
        "event": "cron_job_completed",
        "distinct_id": shop,
        "uuid": str(uuid5(NAMESPACE, f"{run.id}:{run.work_id}:{run.status}")),
        "timestamp": now.isoformat(),
        "properties": {
            "job": run.job,
            "shop_id": run.shop_id,
            "period": run.period,
            "status": run.status,
            "duration_seconds": round(run.seconds, 3),
            "origin": run.origin,
            "stats": dict(stats),
        },
    }
    return [
        NewWork(
            shop_id=run.shop_id or FLEET,
            topic="posthog_capture",
            key=f"run:{run.id}",
            payload=payload,
            origin="job",
            request_id=run.request_id,
        )
    ]
