"""Shared by the console's machine routes: flags of the query, and refusals as JSON."""

from collections.abc import Mapping

from flask import Response, jsonify, request

RETRY_AFTER_SECONDS = "5"

Answer = tuple[Response, int]


def is_set(flag: str) -> bool:
    """Return whether the query has ``flag`` set, as in ``?force=1``."""
    return request.args.get(flag, "").lower() in ("1", "true", "yes")


def json_error(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer with the error ``code``, and ``detail`` for a person."""
    answer = jsonify(error=code, detail=detail)
    answer.headers.update(headers or {})
    return answer, status


def database_unavailable() -> Answer:
    """Return the answer 503: the database cannot be reached."""
    detail = "the database cannot be reached: try again"
    return json_error(503, "unavailable", detail, {"Retry-After": RETRY_AFTER_SECONDS})
