"""``GET /api/v1/deploy-gate``: whether one may deploy now, for pipelines."""

from flask import Blueprint, jsonify
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.alerts.gate import read_gate
from services.alerts.recorded_rules import NOT_EVALUATED
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
                gate = read_gate(tx, utc_now())
        except (DBAPIError, PoolTimeout):
            return json_error(503, "unavailable", UNKNOWN, {"Retry-After": RETRY_AFTER_SECONDS})
        openings = [one.to_document() for one in gate.openings]
        if gate.reasons:
            reasons = [one._asdict() for one in gate.reasons]
            is_known = all(one.code != NOT_EVALUATED for one in gate.reasons)
            return jsonify(gate="closed", reasons=reasons, openings=openings), 409 if is_known else 503
        return jsonify(gate="open", openings=openings), 200

    return blueprint
