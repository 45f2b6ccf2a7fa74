"""Pages that only read."""

from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, render_template, request

from services.console.formatting import describe_age
from services.console.scan_page import show_scan
from services.console.scan_reading import ScanReader
from services.core.clock import utc_now
from services.core.settings import Settings
from services.ledger.health import Health, age_seconds, classify_health, sum_conditions
from services.ledger.health_check import HealthCheck

HEADLINES = {
    "ok": "Everything works.",
    "degraded": "Webhooks are accepted and work is done, but something needs a person.",
    "down": "Webhooks are accepted, but some work has stopped.",
    "unavailable": "Nothing can be accepted or done.",
}
"""By status."""

CONDITION_LABELS = {
    "pauses": "Paused",
    "draining": "Draining",
    "connections_broken": "Broken connections",
    "p1_open": "Open P1 incidents",
    "alert_channels_failed": "Failing alert channels",
    "runs_failed": "Failed runs",
    "jobs_overdue": "Overdue runs",
}


def pages_blueprint(settings: Settings, probe: HealthCheck, scan: ScanReader) -> Blueprint:
    blueprint = Blueprint("pages", __name__)

    @blueprint.get("/")
    def home() -> Any:
        return show_scan(scan)

    @blueprint.get("/queues")
    def queues() -> str:
        return render_template(
            "queues.html",
            title="Queues",
            **_read_queues(probe.read(), utc_now()),
            flower_url=make_flower_url(settings.flower_port),
        )

    return blueprint


def _read_queues(health: Health, now: datetime) -> dict[str, object]:
    status, _, failing = classify_health(health, now)
    return {
        "now": now,
        "status": status,
        "headline": HEADLINES[status],
        "failing": failing,
        "conditions": [
            (CONDITION_LABELS[kind], count) for kind, count in sum_conditions(health).items() if count
        ],
        "counted": bool(health.queues),
        "parts": [
            ("Database", "database", _latency(health.database_latency_ms)),
            ("Broker", "broker", _latency(health.broker_latency_ms)),
            ("Beat", "beat", describe_age(age_seconds(health.heartbeats.get("beat"), now))),
            ("Sweep", "sweep", describe_age(age_seconds(health.heartbeats.get("sweep"), now))),
        ],
        "queues": [
            (
                queue,
                age_seconds(queue.due_since, now),
                age_seconds(queue.last_processed_at, now),
                age_seconds(queue.canary_at, now),
            )
            for queue in health.queues
        ],
    }


def _latency(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else f"{milliseconds:.1f} ms"


def make_flower_url(port: int) -> str:
    """Return Flower's address on the host name of this request."""
    host = urlsplit(f"//{request.host}").hostname or "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
