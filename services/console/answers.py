"""Shared by the console's machine routes: credentials, flags of the query, and refusals as JSON."""

from collections.abc import Mapping
from hmac import compare_digest

from flask import Response, jsonify, request
from werkzeug.datastructures import Headers

RETRY_AFTER_SECONDS = "5"
SECRET_HEADERS = ("X-Cron-Secret", "X-Internal-Secret")
_BEARER = "bearer "

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


def read_bearer(headers: Headers) -> str:
    """Return the token of ``Authorization: Bearer``, or an empty text."""
    given = headers.get("Authorization", "")
    return given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else ""


def has_cron_secret(headers: Headers, cron_secrets: tuple[str, ...]) -> bool:
    """Return, in constant time, whether one of the three headers has one of ``cron_secrets``.

    An empty secret matches nothing.
    """
    given = [headers.get(name, "") for name in SECRET_HEADERS]
    given += filter(None, [read_bearer(headers)])
    found = False
    for wanted in filter(None, cron_secrets):
        for candidate in given:
            # Bytes, because ``compare_digest`` does not accept text that is not ASCII.
            found |= compare_digest(candidate.encode("latin-1", "replace"), wanted.encode())
    return found
