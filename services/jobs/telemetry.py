"""Product analytics hear of every run once: the event is work of the ledger, and its id is the run's."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from services.core.settings import get_settings
from services.ledger.work import FLEET, NewWork

NAMESPACE = UUID("0c1f2a53-6d0e-4a35-9a80-3a1f0f5b7d21")
"""An event's uuid is made of its run under this name: PostHog drops a second one of the same uuid."""


class EndedRun(NamedTuple):
    """A run that is over, as its row has it; ``seconds`` from its first start."""

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


def plan_completed(run: EndedRun, stats: Mapping[str, Any], now: datetime) -> list[NewWork]:
    """Return the work that tells PostHog of a run that ended; none where no ``POSTHOG_KEY`` is set."""
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
