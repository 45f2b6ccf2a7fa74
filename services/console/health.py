"""The console's own ``/health``, ``/livez`` and ``/readyz``, answering as those of ingress do."""

import orjson
from flask import Blueprint, Response, jsonify

from services.core.clock import utc_now
from services.ledger.health import describe_health
from services.ledger.probe import Probe


def health_blueprint(probe: Probe) -> Blueprint:
    """Return the three routes; the console is ready while the database that it shows answers."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/health")
    @blueprint.get("/api/v1/health")
    def show_health() -> Response:
        answer = describe_health(probe.read(), utc_now())
        status = 200 if answer["status"] == "ok" else 503
        return Response(
            orjson.dumps(answer), status, mimetype="application/json"
        )  # the verdict stays in front

    @blueprint.get("/livez")
    def show_alive() -> Response:
        return jsonify(status="alive")

    @blueprint.get("/readyz")
    def show_ready() -> tuple[Response, int]:
        if probe.is_ready():
            return jsonify(status="ready"), 200
        return jsonify(status="unavailable", missing=["database"]), 503

    return blueprint
