"""The routes by which others learn whether the fleet is well; the judging is the ledger's."""

import orjson
from flask import Blueprint, Response, jsonify

from services.core.clock import utc_now
from services.ledger.health import describe_health
from services.ledger.probe import Probe


def health_blueprint(probe: Probe | None = None) -> Blueprint:
    """Return ``/health`` (also ``/api/v1/health``), ``/livez`` and ``/readyz``.

    ``/health`` is 503 and names what is missing when work stands still anywhere. ``/readyz`` is 503 only
    when a webhook could not be recorded: without the broker they are still accepted, so they must still come.
    """
    probe = probe or Probe()
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

    @blueprint.after_request
    def forbid_caching(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint
