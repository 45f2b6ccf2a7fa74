"""The console's application: front page (health, waiting work, link to Flower) and other routes."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, render_template, request

from services.console.audit import audit_blueprint
from services.console.auth import close_all_but_public, has_cron_secret
from services.console.cron import cron_blueprint
from services.console.gate import gate_blueprint
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import Settings, get_settings
from services.ingress.health import Details, health_blueprint
from services.ingress.page_stats import count_pages
from services.ingress.request_stats import RequestStats
from services.jobs.conditions import ConditionLine, count_conditions, list_conditions
from services.ledger.health import Health, age_seconds, classify_health, sum_conditions
from services.ledger.health_check import DEADLINE_SECONDS, CachedCheck, HealthCheck, result_within

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


def make_app(
    settings: Settings | None = None, probe: HealthCheck | None = None, stats: RequestStats | None = None
) -> Flask:
    """Return the console application, which counts its requests in ``stats``.

    Routes that are not listed in ``auth`` are closed.
    """
    settings = settings or get_settings()
    probe = probe or HealthCheck(count_conditions)
    app = Flask(__name__)
    count_pages(app, stats)
    app.register_blueprint(health_blueprint(probe, _conditions_reader(settings.cron_secrets)))
    app.register_blueprint(cron_blueprint())
    app.register_blueprint(audit_blueprint(settings))
    app.register_blueprint(gate_blueprint())
    app.add_template_filter(describe_age, "age")
    close_all_but_public(app, settings.cron_secrets)

    @app.get("/")
    def home() -> str:
        now = utc_now()
        return render_template(
            "home.html", **_front_page(probe.read(), now), flower_url=_flower_url(settings.flower_port)
        )

    return app


def _conditions_reader(cron_secrets: tuple[str, ...]) -> Callable[[], Details | None]:
    """Return the reader of ``conditions`` for ``/health``, if a request has one of ``cron_secrets``.

    They list what needs a person, with shop, person and reason; null if they could not be read in time.
    """
    check = CachedCheck("conditions", _list_conditions)

    def start() -> Details | None:
        if not has_cron_secret(request.headers, cron_secrets):
            return None
        reading = check.start()

        def finish() -> dict[str, Any]:
            found = result_within(reading, DEADLINE_SECONDS)
            return {"conditions": found if found is None else [line._asdict() for line in found]}

        return finish

    return start


def _list_conditions() -> Sequence[ConditionLine]:
    with transaction() as tx:
        return list_conditions(tx, utc_now())


def describe_age(seconds: float | None) -> str:
    """Return an age as ``now``, ``12 s``, ``4 min``, ``3 h`` or ``2 d``; None is a dash."""
    if seconds is None:
        return "–"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "now"


def _front_page(health: Health, now: datetime) -> dict[str, object]:
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


def _flower_url(port: int) -> str:
    """Return Flower's address on the host name of this request."""
    host = urlsplit(f"//{request.host}").hostname or "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
