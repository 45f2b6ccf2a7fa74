"""``/health``, ``/livez`` and ``/readyz`` of ingress and console; see ``services.ledger.health``."""

from collections.abc import Callable
from typing import Any

import orjson
from flask import Blueprint, Response, jsonify

from services.core.clock import utc_now
from services.ledger.health import classify_health, describe_health
from services.ledger.health_check import HealthCheck

Details = Callable[[], dict[str, Any]]


def health_blueprint(
    probe: HealthCheck, start_details: Callable[[], Details | None] | None = None
) -> Blueprint:
    """Return ``/health`` (also ``/api/v1/health``), ``/livez`` and ``/readyz``.

    ``/health`` is 503 only if no webhook can be recorded or a queue, beat or the sweep does not work;
    anything else that needs a person is ``degraded`` with 200. ``/readyz`` is 503 only without the database,
    because without the broker webhooks are still accepted. No response has a shop, a person or a reason,
    because the ingress is public. ``start_details`` starts reading further fields for ``/health`` and returns
    a function that returns them, or None if the request may not see them.
    """
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/health")
    @blueprint.get("/api/v1/health")
    def show_health() -> Response:
        details = start_details() if start_details else None
        health, now = probe.read(), utc_now()
        answer = describe_health(health, now) | (details() if details else {})
        status = 503 if classify_health(health, now).is_down else 200
        # orjson keeps the order of keys, so the status is first.
        return Response(orjson.dumps(answer), status, mimetype="application/json")

    @blueprint.get("/livez")
    def show_alive() -> Response:
        return jsonify(status="alive")

    @blueprint.get("/readyz")
    def show_ready() -> tuple[Response, int]:
        if probe.is_ready():
            return jsonify(status="ready"), 200
        return jsonify(status="unavailable", failing=["database"], missing=["database"]), 503

    @blueprint.after_request
    def forbid_caching(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint
