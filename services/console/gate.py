"""``GET /api/v1/deploy-gate``: whether one may deploy now, for pipelines."""

from flask import Blueprint, jsonify
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.alerts.gate import list_gate_reasons
from services.console.answers import RETRY_AFTER_SECONDS, Answer, json_error
from services.core.clock import utc_now
from services.core.db import transaction

UNKNOWN = "the database did not answer, or has no tables: the gate is not open"


def gate_blueprint() -> Blueprint:
    blueprint = Blueprint("gate", __name__)

    @blueprint.get("/api/v1/deploy-gate")
    def show() -> Answer:
        try:
            with transaction() as tx:
                reasons = list_gate_reasons(tx, utc_now())
        except (DBAPIError, PoolTimeout):
            return json_error(503, "unavailable", UNKNOWN, {"Retry-After": RETRY_AFTER_SECONDS})
        if reasons:
            return jsonify(gate="closed", reasons=[one._asdict() for one in reasons]), 409
        return jsonify(gate="open"), 200

    return blueprint
