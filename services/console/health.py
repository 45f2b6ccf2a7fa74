"""The console's ``/health``, ``/livez`` and ``/readyz``: with the secret, more than those of ingress."""

from collections.abc import Sequence
from typing import Any

import orjson
from flask import Blueprint, Response, jsonify, request

from services.console.cron_auth import knows_secret
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.conditions import ConditionLine, list_conditions
from services.ledger.health import classify_health, describe_health
from services.ledger.health_check import DEADLINE_SECONDS, CachedCheck, HealthCheck, result_within


def health_blueprint(probe: HealthCheck, cron_secrets: tuple[str, ...] = ()) -> Blueprint:
    """Return the three routes; the console is ready while the database answers.

    To a request with one of ``cron_secrets``, ``/health`` also answers ``conditions``: what needs a person,
    with shop, person and reason; null when they could not be read in time.
    """
    lines = CachedCheck("conditions", _list_conditions)
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/health")
    @blueprint.get("/api/v1/health")
    def show_health() -> Response:
        reading = lines.start() if knows_secret(request.headers, cron_secrets) else None
        health, now = probe.read(), utc_now()
        answer: dict[str, Any] = describe_health(health, now)
        if reading is not None:
            found = result_within(reading, DEADLINE_SECONDS)
            answer["conditions"] = found if found is None else [line._asdict() for line in found]
        status = 503 if classify_health(health, now).stands_still else 200
        # orjson keeps the order: the status comes first.
        return Response(orjson.dumps(answer), status, mimetype="application/json")

    @blueprint.get("/livez")
    def show_alive() -> Response:
        return jsonify(status="alive")

    @blueprint.get("/readyz")
    def show_ready() -> tuple[Response, int]:
        if probe.is_ready():
            return jsonify(status="ready"), 200
        return jsonify(status="unavailable", missing=["database"]), 503

    return blueprint


def _list_conditions() -> Sequence[ConditionLine]:
    with transaction() as tx:
        return list_conditions(tx, utc_now())
