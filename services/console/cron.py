"""``POST /cron/<job>``: manual trigger of a job, as beat does it.

Always answers JSON, with the ``X-Request-Id`` of the run, its log lines and its audit events.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from services.console.answers import Answer, database_unavailable, is_set, json_error
from services.console.auth import CRON_CALLER
from services.core.clock import utc_now
from services.core.db import is_connection_fault, transaction
from services.core.sentry import capture_bug
from services.ingress.page_stats import note_fault
from services.jobs.runs import ScopeInvalid, StartOutcome, StartResult, trigger_job
from services.jobs.schedule import PeriodInvalid
from services.jobs.store import JobUnknown, get_job
from services.ledger.dispatch import send_messages
from services.shops.shops import ShopUnknown

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def cron_blueprint() -> Blueprint:
    blueprint = Blueprint("cron", __name__)

    @blueprint.route("/cron/<job>", methods=_METHODS)
    @answer_errors
    def start(job: str) -> Answer:
        return start_job(job)

    @blueprint.route(
        "/api/v1/internal/<any('run-due-reports', 'send-reminders', 'founder-sequence'):job>",
        endpoint="start_due_reports",
        methods=_METHODS,
    )
    @answer_errors
    def start_internal(job: str) -> Answer:
        return start_job(job)

    @blueprint.after_request
    def forbid_caching(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint


def answer_errors(route: Callable[..., Answer]) -> Callable[..., Answer]:
    """Answer 405 to other methods than POST, 503 without the database, 500 as JSON for an internal error."""

    @wraps(route)
    def answer(*args: Any, **kwargs: Any) -> Answer:
        if request.method != "POST":
            detail = "starting a job needs POST"
            return json_error(405, "method_not_allowed", detail, {"Allow": "POST"})
        try:
            return route(*args, **kwargs)
        except Exception as fault:  # noqa: BLE001 - the caller is a program
            note_fault(fault)
            if is_connection_fault(fault):
                return database_unavailable()
            capture_bug(fault, topic="cron", request_id=g.request_id)
            detail = f"an error in Shopfleet: fleet errors show {g.request_id}"
            return json_error(500, "internal_error", detail)

    return answer


def start_job(name: str) -> Answer:
    """Start the job's run, one per shop if it has shops, and answer with the outcome of each.

    ``?shop=`` names one shop, ``?period=`` another period than the newest, ``?force=1`` repeats a finished
    run. Messages are sent after the commit; without the broker the sweep sends them later.
    """
    try:
        triggered = _start(name)
    except (JobUnknown, ShopUnknown) as fault:
        return json_error(404, "unknown_job" if isinstance(fault, JobUnknown) else "unknown_shop", str(fault))
    except (PeriodInvalid, ScopeInvalid) as fault:
        code = "invalid_shop" if isinstance(fault, ScopeInvalid) else "invalid_period"
        return json_error(422, code, str(fault))
    started = [result for result in triggered if result.found is StartOutcome.STARTED]
    send_messages([ref for result in started for ref in (result.ref, *result.checkins) if ref])
    runs = [_to_json(name, result) for result in triggered]
    if not runs:
        return jsonify(run=None, status="no_shops", job=name, runs=[]), 200
    running = [run for run in runs if run["status"] != StartOutcome.ALREADY_DONE]
    status = 202 if running else 200
    if triggered[0].shop is None or request.args.get("shop"):
        return jsonify(runs[0]), status
    return jsonify((running or runs)[0] | {"shop": None, "runs": runs}), status


def _start(name: str) -> list[StartResult]:
    slug = request.args.get("shop", "")
    if not slug.isprintable():
        raise ShopUnknown(f"there is no shop {slug!r}")
    with transaction() as tx:
        return trigger_job(
            tx,
            get_job(tx, name),
            slug,
            request.args.get("period") or None,
            origin="http",
            by=CRON_CALLER,
            now=utc_now(),
            force=is_set("force"),
            request_id=g.request_id,
        )


def _to_json(job: str, run: StartResult) -> dict[str, Any]:
    return {
        "run": run.run_id,
        "status": run.found.value,
        "job": job,
        "period": run.period,
        "shop": run.shop.slug if run.shop else None,
    }
