"""The components that do not work, with the reason, for operators: see ``services.ledger.health``."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from services.core.durations import format_seconds
from services.ledger.backlog import list_topic_figures
from services.ledger.health import Health, list_components_down, read_heartbeats


def read_components(tx: Connection, now: datetime) -> Health:
    """Return the health of beat, the sweep and the workers; the broker is not asked."""
    return replace(read_heartbeats(tx), topics=list_topic_figures(tx, now))


def describe_components_down(health: Health, now: datetime, *, is_broker_up: bool = True) -> dict[str, str]:
    """Return why each component of ``list_components_down`` does not work. Pure."""
    health = replace(health, broker_latency_ms=0.0 if is_broker_up else None)
    return {part: _describe(health, part, now) for part in list_components_down(health, now)}


def _describe(health: Health, part: str, now: datetime) -> str:
    _, _, queue = part.partition(":")
    at = health.heartbeats.get(f"queue:{queue}" if queue else part)
    age = f"for {format_seconds((now - at).total_seconds())}" if at else "so far"
    if queue:
        worker = health.workers.get(queue)
        last = f"; the last was {worker}: if it still runs, it hangs: restart it" if worker else ": start one"
        return f"no worker has answered on the queue {queue} {age}{last}"
    if part == "broker":
        return "the broker does not answer, or takes no message"
    what = {"beat": "no beat has sent a message", "sweep": "the sweep has not run"}
    return f"{what.get(part, f'{part} does not answer')} {age}"
