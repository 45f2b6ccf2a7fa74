"""``/health``, ``/livez`` and ``/readyz`` of the ingress. ``services.ledger.health`` decides the status."""

import orjson
from flask import Blueprint, Response, jsonify

from services.core.clock import utc_now
from services.ledger.health import classify_health, describe_health
from services.ledger.health_check import HealthCheck


def health_blueprint(probe: HealthCheck) -> Blueprint:
    """Return ``/health`` (also ``/api/v1/health``), ``/livez`` and ``/readyz``.

    ``/health`` is 503 only when no webhook can be recorded or a queue, beat or the sweep stands still;
    anything else that needs a person is ``degraded`` with 200. ``/readyz`` is 503 only without the database:
    without the broker webhooks are still accepted. No answer names a shop, a person or a reason, because the
    ingress is public.
    """
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/health")
    @blueprint.get("/api/v1/health")
    def show_health() -> Response:
        health, now = probe.read(), utc_now()
        status = 503 if classify_health(health, now).stands_still else 200
        # orjson keeps the order: the status comes first.
        return Response(orjson.dumps(describe_health(health, now)), status, mimetype="application/json")

    @blueprint.get("/livez")
    def show_alive() -> Response:
        return jsonify(status="alive")

    @blueprint.get("/readyz")
    def show_ready() -> tuple[Response, int]:
        if probe.is_ready():
            return jsonify(status="ready"), 200
        return jsonify(status="unavailable", missing=["database"]), 503

    @blueprint.after_request
    def forbid_caching(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint
