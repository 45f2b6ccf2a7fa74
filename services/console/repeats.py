"""Repeated changes: the same form sent twice, or the same request with one key, gets the first answer.

Answers are kept in the memory of the console's one process, as rates are.
"""

from collections import OrderedDict
from hashlib import sha256
from threading import Event, Lock
from time import monotonic
from typing import Any, Final

import orjson
from flask import Flask, Response, abort, g, request, session

from services.console.auth import CHANGE_ROUTES, SAFE_METHODS

FIELD: Final = "request_key"
"""Hidden field of each form that changes something: a value made when the page was rendered."""
HEADER: Final = "Idempotency-Key"
KEPT_SECONDS: Final = 600.0
MOST_ANSWERS: Final = 200
LARGEST_BODY: Final = 256 * 1024
WAIT_SECONDS: Final = 10.0
_FLASHES = "_flashes"


class FirstAnswer:
    """The answer to the first of equal requests. ``response`` is None if that failed or is not kept."""

    def __init__(self) -> None:
        self.at = monotonic()
        self.ended = Event()
        self.response: Response | None = None
        self.flashes: list[Any] = []


def answer_repeats(app: Flask) -> None:
    """Answer a repeated change without making it again. ``g.access`` must be set before."""
    answers: OrderedDict[bytes, FirstAnswer] = OrderedDict()
    lock = Lock()

    @app.before_request
    def find_first() -> Response | None:
        g.first_answer = None
        key = _find_key()
        if key is None:
            return None
        while True:
            with lock:
                _drop_old(answers)
                first = answers.get(key)
                if first is None:
                    g.first_answer = key, answers.setdefault(key, FirstAnswer())
                    return None
            if not first.ended.wait(WAIT_SECONDS):
                abort(409, "the same request is still running: its result is on the page when it ends")
            if first.response is not None:
                return _repeat(first.response, first.flashes)

    @app.after_request
    def keep(response: Response) -> Response:
        if g.get("first_answer"):
            _, first = g.first_answer
            is_small = response.is_sequence and (response.calculate_content_length() or 0) <= LARGEST_BODY
            if response.status_code < 400 and is_small:
                headers = [one for one in response.headers if one[0] != "Set-Cookie"]
                first.flashes = [*session.get(_FLASHES, ())]
                first.response = Response(response.get_data(), response.status_code, headers)
        return response

    @app.teardown_request
    def end(_fault: BaseException | None) -> None:
        if g.get("first_answer"):
            key, first = g.first_answer
            with lock:
                if first.response is None:
                    answers.pop(key, None)
            first.ended.set()


def _find_key() -> bytes | None:
    """Return what equal requests of a person have in common; None for a request that is never repeated."""
    is_own = request.blueprint in ("account", "filters")
    if request.method in SAFE_METHODS or not (is_own or request.endpoint in CHANGE_ROUTES):
        return None
    is_api = request.path.startswith("/api/")
    key = request.headers.get(HEADER, "") if is_api else request.form.get(FIELD, "")
    if not key or g.access is None:
        return None
    if is_api:
        content = request.get_data()  # kept: a form that is parsed first leaves no body
    else:
        fields = sorted(one for one in request.form.items(multi=True) if one[0] != "csrf_token")
        content = orjson.dumps(fields)
    return sha256(orjson.dumps([g.access.user_id, request.full_path, key]) + content).digest()


def _drop_old(answers: OrderedDict[bytes, FirstAnswer]) -> None:
    """Drop answers that are too old or too many, the oldest first."""
    oldest = monotonic() - KEPT_SECONDS
    while answers and (len(answers) >= MOST_ANSWERS or next(iter(answers.values())).at < oldest):
        answers.popitem(last=False)


def _repeat(response: Response, flashes: list[Any]) -> Response:
    if flashes:
        session[_FLASHES] = [*flashes]
    return Response(response.get_data(), response.status_code, [*response.headers])
