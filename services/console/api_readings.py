"""``/api/v1/queues`` and ``/api/v1/jobs``: the figures of the pages, from the same shared readings."""

from typing import Any

import orjson
from flask import Blueprint, Response, g, request

from services.accounts.roles import Role
from services.console.answers import Answer, json_error
from services.console.job_lines import STATES, JobPlaceLine, JobsReader
from services.console.queue_reading import QueueLine, QueueReader, list_queue_lines
from services.core.errors import describe_unknown


def add_api_readings(blueprint: Blueprint, queues: QueueReader, jobs: JobsReader) -> None:
    """Add the routes to the blueprint of the API."""
    blueprint.add_url_rule("/queues", "show_queues", lambda: _show_queues(queues))
    blueprint.add_url_rule("/jobs", "show_jobs", lambda: _show_jobs(jobs))


def _show_queues(reader: QueueReader) -> Response | Answer:
    reading = reader.read()
    lines = list_queue_lines(reading) if reading else []
    if reading is None or not lines:
        return _too_slow("the queues")
    documents = [
        _describe_queue(line)
        | {"has_worker": line.has_worker, "topics": [_describe_queue(topic) for topic in topics]}
        for line, topics in lines
    ]
    return _answer({"at": reading.at, "queues": documents})


def _show_jobs(reader: JobsReader) -> Response | Answer:
    reading = reader.read()
    if reading is None:
        return _too_slow("the jobs")
    visible = g.access.shops_with(Role.VIEWER)
    places = [
        _describe_place(line) for line in reading.lines if visible is None or line.schedule.shop_id in visible
    ]
    values = {name: {place[name] for place in places} - {None} for name in ("shop", "job")}
    values["state"] = set(STATES)
    for name, value in request.args.items():
        if name not in values or value not in values[name]:
            detail = describe_unknown(value if name in values else name, sorted(values.get(name, values)))
            return json_error(422, "invalid_filter", f"{name if name in values else 'filter'} {detail}")
        places = [place for place in places if place[name] == value]
    return _answer({"at": reading.at, "jobs": places})


def _describe_queue(line: QueueLine) -> dict[str, Any]:
    return {
        "name": line.name,
        "ready": line.ready,
        "locked": line.locked,
        "retrying": line.retrying,
        "dead": line.dead,
        "oldest_seconds": line.oldest,
        "done_per_minute": line.done_per_minute,
        "failed_per_minute": line.failed_per_minute,
        "last_seconds": line.last,
    }


def _describe_place(line: JobPlaceLine) -> dict[str, Any]:
    one = line.schedule
    return {
        "job": one.job.name,
        "shop": one.slug or None,
        "state": line.state,
        "open_runs": line.open_runs,
        "schedule": one.schedule,
        "timezone": one.zone,
        "is_enabled": one.enabled,
        "next_due_at": one.next_due_at,
    }


def _too_slow(what: str) -> Answer:
    return json_error(503, "unavailable", f"{what} could not be read in time: try again")


def _answer(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), mimetype="application/json")
