"""Review: an event that could not be read, and that a person sent back, is looked at once more."""

from collections.abc import Sequence
from datetime import datetime

import orjson
from sqlalchemy import Connection

from services.core.errors import Refused
from services.ledger.topics import plan_topic
from services.ledger.work import Done, HandlerResult, NewWork, Outcome, WorkItem


def review_events(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:  # noqa: ARG001
    """Each readable event has its work planned as if it had just arrived; others are refused again."""
    outcomes: list[Outcome] = []
    new_work: list[NewWork] = []
    for item in items:
        try:
            orjson.loads(item.body)
        except orjson.JSONDecodeError as fault:
            outcomes.append(Refused("unreadable", f"the body is not JSON: {fault}; discard it, or keep it"))
            continue
        topic = plan_topic(item.event_provider, item.event_topic)
        if topic is not None and topic.name != item.topic:
            new_work.append(
                NewWork(
                    shop_id=item.shop_id,
                    topic=topic.name,
                    key=item.key,
                    event_id=item.event_id,
                    origin="review",
                    request_id=item.request_id,
                )
            )
        outcomes.append(Done("reviewed"))
    return HandlerResult(outcomes, new_work)
