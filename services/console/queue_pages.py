"""``/queues``: work by queue and topic, pauses, backoff, and their changes."""

from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for

from services.accounts.roles import Role
from services.console.charts import SPANS
from services.console.formatting import describe_age
from services.console.list_reader import find_visible_slugs
from services.console.planned_change import Given, PlannedChange, make_change
from services.console.queue_changes import (
    list_operated_shops,
    list_visible_pauses,
    plan_change,
)
from services.console.queue_charts import list_charts
from services.console.queue_reading import QueueReader, list_queue_lines
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.core.settings import Settings
from services.ledger.backoff import MAX_FACTOR, list_backoffs
from services.ledger.health import age_seconds, classify_health, sum_conditions
from services.ledger.pause import describe_scope
from services.ledger.queue_samples import TOPIC_PREFIX
from services.ledger.topics import COSTS, QUEUES, TOPICS

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


def queues_blueprint(settings: Settings, reader: QueueReader) -> Blueprint:
    blueprint = Blueprint("queues", __name__, url_prefix="/queues")

    @blueprint.get("")
    def index() -> Any:
        return _show_queues(reader, "", settings)

    @blueprint.get("/<queue>")
    def show(queue: str) -> Any:
        topic = request.args.get("topic", "")
        if queue not in QUEUES:
            abort(404, f"there is no queue {queue}")
        if topic and (topic not in TOPICS or TOPICS[topic].queue != queue):
            abort(404, f"the queue {queue} has no such topic")
        return _show_queues(reader, queue, settings, topic)

    @blueprint.get("/change")
    def plan() -> Any:
        return _show_plan(request.args.to_dict())

    @blueprint.post("/change")
    def change() -> Any:
        return _change(request.form.to_dict())

    return blueprint


def _show_queues(reader: QueueReader, queue: str, settings: Settings, topic: str = "") -> Any:
    reading = reader.read()
    if reading is None:
        detail = "The queues could not be read in time. The console's log has the cause."
        return render_template("error.html", title="No figures", detail=detail, is_red=True), 503
    with transaction() as tx:
        pauses, backoffs = list_visible_pauses(tx), list_backoffs(tx)
        slugs = find_visible_slugs(tx, g.access) if pauses else {}
        # A part that is read again shows no chart.
        is_whole = "HX-Request" not in request.headers
        span = request.args.get("span", "")
        span = span if span in SPANS else next(iter(SPANS))
        charted = TOPIC_PREFIX + topic if topic else queue
        charts = list_charts(tx, charted, span, g.at, settings.zone) if is_whole else []
    health, now = reading.health, reading.at
    status, is_down, failing = classify_health(health, now)
    lines = list_queue_lines(reading)
    return render_template(
        "queues.html",
        title=f"Queue {queue}" if queue else "Queues",
        is_red=is_down,
        queue=queue,
        topic_of_charts=topic,
        now=now,
        status=status,
        headline=HEADLINES[status],
        failing=failing,
        conditions=[
            (CONDITION_LABELS[kind], count) for kind, count in sum_conditions(health).items() if count
        ],
        parts=[
            ("Database", "database", _latency(health.database_latency_ms)),
            ("Broker", "broker", _latency(health.broker_latency_ms)),
            ("Beat", "beat", describe_age(age_seconds(health.heartbeats.get("beat"), now))),
            ("Sweep", "sweep", describe_age(age_seconds(health.heartbeats.get("sweep"), now))),
        ],
        is_counted=bool(lines),
        lines=[
            (line, [topic for topic in topics if queue or not topic.is_idle])
            for line, topics in lines
            if queue in ("", line.name)
        ],
        pauses=pauses,
        backoffs=backoffs,
        describe=lambda scope: describe_scope(scope, slugs),
        flower_url=make_flower_url(settings.flower_port),
        charts=charts,
        spans=list(SPANS),
        span=span,
        zone=settings.fleet_timezone,
    )


def _show_plan(given: Given) -> Any:
    planned: PlannedChange | None = None
    fault = ""
    with transaction() as tx:
        shops = sorted(list_operated_shops(tx).values())
        try:
            planned = plan_change(tx, given) if given.get("act") else None
        except InputInvalid as error:
            fault = str(error)
    return render_template(
        "queue_change.html",
        title=planned.title if planned else "Change queues",
        given=given,
        planned=planned,
        fault=fault,
        shops=shops,
        is_of_fleet=g.access.may(Role.OPERATOR),
        queues=QUEUES,
        topics=TOPICS,
        costs=COSTS,
        max_factor=MAX_FACTOR,
    ), (422 if fault else 200)


def _change(given: Given) -> Any:
    try:
        flash(make_change(plan_change, given).text)
    except InputInvalid as fault:
        flash(str(fault), "error")
    return redirect(url_for("queues.index"))


def _latency(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else f"{milliseconds:.1f} ms"


def make_flower_url(port: int) -> str:
    """Return Flower's address on the host name of this request."""
    host = urlsplit(f"//{request.host}").hostname or "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
