"""The hot route, as a plain WSGI callable: verify, record, answer. Flask would cost more than all of it."""

import time
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson

from services.core.clock import utc_now
from services.core.errors import Rejected
from services.core.log import log_request
from services.core.sentry import capture_bug
from services.ingress.counts import UNKNOWN, Counts
from services.ingress.group_commit import GroupCommit, Unavailable
from services.ingress.keyring import Keyring, live_secrets
from services.ingress.routes import Route, find_route
from services.ledger.accept import Accepted, NewEvent
from services.ledger.plan import plan_topic
from services.providers.delivery import Delivery

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MAX_BODY_BYTES = 5 * 1024 * 1024
RETRY_AFTER_SECONDS = 5
PAUSED_RETRY_AFTER_SECONDS = 60

_STATUS = {
    200: "200 OK",
    401: "401 Unauthorized",
    404: "404 Not Found",
    405: "405 Method Not Allowed",
    413: "413 Content Too Large",
    503: "503 Service Unavailable",
}


class _Answer(Exception):
    """A request ends here: what it is told."""

    def __init__(self, status: int, error: str, *, retry_after_seconds: int = 0, detail: str = "") -> None:
        super().__init__(error)
        self.status, self.error, self.detail = status, error, detail
        self.retry_after_seconds = retry_after_seconds


class Webhooks:
    """Answers ``POST /webhooks/...``; see the contract's table of routes and answers."""

    def __init__(self, keyring: Keyring, commits: GroupCommit, counts: Counts) -> None:
        self._keyring, self._commits, self._counts = keyring, commits, counts

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request. Whatever happens, the answer is JSON and carries ``X-Request-Id``."""
        began = time.perf_counter()
        now = utc_now()
        request_id = uuid4().hex
        route = find_route(environ["PATH_INFO"])
        delivery: Delivery | None = None
        accepted: Accepted | None = None
        body = b""
        headers = [("Content-Type", "application/json"), ("X-Request-Id", request_id)]
        status, outcome, answer = 200, "accepted", b""
        try:
            body, found = self._receive(environ, route)
            delivery, shop_id = self._verify(found, environ, body, now)
            accepted = self._record(found, delivery, shop_id, body, now, request_id)
            outcome = "accepted" if accepted.is_new else "duplicate"
            answer = orjson.dumps({"status": outcome, "id": accepted.event_id})
        except _Answer as told:
            status, outcome = told.status, told.error
            fields = {"error": told.error} | ({"detail": told.detail} if told.detail else {})
            answer = orjson.dumps(fields)
            if told.retry_after_seconds:
                headers.append(("Retry-After", str(told.retry_after_seconds)))
            if told.status == 405:
                headers.append(("Allow", "POST"))
        except Exception as fault:  # noqa: BLE001 - a bug must not look like a lost event
            capture_bug(fault, topic="ingress", shop=route.slug if route else "", request_id=request_id)
            status, outcome = 503, "unavailable"
            answer = orjson.dumps({"error": outcome})
            headers.append(("Retry-After", str(RETRY_AFTER_SECONDS)))
        self._tell(route, delivery, accepted, now, status, outcome, request_id, len(body), began)
        headers.append(("Content-Length", str(len(answer))))
        start_response(_STATUS[status], headers)
        return [answer]

    def _receive(self, environ: "WSGIEnvironment", route: Route | None) -> tuple[bytes, Route]:
        if route is None:
            raise _Answer(404, "not_found")
        if environ["REQUEST_METHOD"] != "POST":
            raise _Answer(405, "method_not_allowed")
        length = environ.get("CONTENT_LENGTH") or ""
        if length.isdecimal() and int(length) > MAX_BODY_BYTES:
            raise _Answer(413, "too_large")
        body: bytes = environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise _Answer(413, "too_large")
        return body, route

    def _verify(
        self, route: Route, environ: "WSGIEnvironment", body: bytes, now: datetime
    ) -> tuple[Delivery, int]:
        """Return the delivery and its shop. The shop of the path is judged by its own secrets alone."""
        headers = lower_headers(environ)
        keyring = self._keyring
        refused = Rejected("invalid_signature")
        for _look in range(2):
            ring = keyring.ring
            key = ring.keys.get((route.slug, route.secret_name))
            try:
                delivery = route.read(headers, body, live_secrets(key, now), now)
            except Rejected as fault:
                refused = fault
                keyring.reload()  # the secret may have been set a moment ago
                if keyring.ring is ring:
                    break
            else:
                if key is not None:
                    return delivery, key.shop_id
                break  # whoever signs with nobody's secret is nobody
        raise self._refusal(route) from refused

    def _refusal(self, route: Route) -> _Answer:
        keyring = self._keyring
        if not keyring.is_loaded:
            return _Answer(503, "unavailable", retry_after_seconds=RETRY_AFTER_SECONDS)
        if route.slug not in keyring.ring.shop_ids:
            return _Answer(404, "unknown_shop")
        key = keyring.ring.keys.get((route.slug, route.secret_name))
        if key is not None and key.is_unreadable:
            return _Answer(503, "unavailable", retry_after_seconds=RETRY_AFTER_SECONDS)
        return _Answer(401, "invalid_signature")

    def _record(
        self, route: Route, delivery: Delivery, shop_id: int, body: bytes, now: datetime, request_id: str
    ) -> Accepted:
        topic = plan_topic(delivery.provider, delivery.topic)
        queue, name = (topic.queue, topic.name) if topic else ("webhooks", "")
        if self._keyring.ring.refusals and self._keyring.is_refused(shop_id, queue, name):
            raise _Answer(503, "paused", retry_after_seconds=PAUSED_RETRY_AFTER_SECONDS)
        event = NewEvent(
            shop_id=shop_id,
            provider=route.provider,
            topic=delivery.topic,
            delivery_key=delivery.delivery_key,
            headers=delivery.headers,
            body=body,
            received_at=now,
            occurred_at=delivery.occurred_at,
            request_id=request_id,
            key=delivery.key,
            readable=delivery.readable,
        )
        try:
            return self._commits.record(event)
        except Unavailable as fault:
            raise _Answer(503, "unavailable", retry_after_seconds=RETRY_AFTER_SECONDS) from fault

    def _tell(
        self,
        route: Route | None,
        delivery: Delivery | None,
        accepted: Accepted | None,
        now: datetime,
        status: int,
        outcome: str,
        request_id: str,
        size_bytes: int,
        began: float,
    ) -> None:
        known = route is not None and route.slug in self._keyring.ring.shop_ids
        slug = route.slug if route and known else UNKNOWN
        provider = route.provider if route and known else UNKNOWN
        self._counts.count(now, slug, provider, outcome)
        log_request(
            request_id=request_id,
            shop=route.slug if route else UNKNOWN,
            provider=provider,
            topic=delivery.topic if delivery else "",
            status=status,
            outcome=outcome,
            duration_ms=(time.perf_counter() - began) * 1000,
            size_bytes=size_bytes,
            event_id=accepted.event_id if accepted else None,
        )


def lower_headers(environ: "WSGIEnvironment") -> dict[str, Any]:
    """Return the request's headers under their lower-case names."""
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    return headers
