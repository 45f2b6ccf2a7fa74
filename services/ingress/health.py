"""The routes by which others learn whether the fleet is well; the judging is the ledger's."""

import orjson
from flask import Blueprint, Response, jsonify

from services.core.clock import utc_now
from services.ledger.health import classify_health, describe_health
from services.ledger.health_check import HealthCheck


def health_blueprint(probe: HealthCheck) -> Blueprint:
    """Return ``/health`` (also ``/api/v1/health``), ``/livez`` and ``/readyz``.

    ``/health`` is 503 only when no webhook can be recorded or a queue, beat or the sweep stands still; what
    needs a person beyond that is ``degraded`` with 200. ``/readyz`` is 503 only when a webhook could not be
    recorded: without the broker they are still accepted, so they must still come. No answer names a shop,
    a person or a reason: the ingress is public.
    """
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/health")
    @blueprint.get("/api/v1/health")
    def show_health() -> Response:
        health, now = probe.read(), utc_now()
        status = 503 if classify_health(health, now).stands_still else 200
        # orjson keeps the order: the verdict stays in front.
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
