"""The webhook route: verifies, records and answers. Does not use Flask, which would cost too much time."""

import asyncio
import time
from datetime import datetime
from uuid import uuid4

import orjson

from services.core.clock import utc_now
from services.core.errors import WebhookRejected
from services.core.log import log_request
from services.core.log_redaction import redact_text
from services.core.sentry import capture_bug
from services.ingress.group_commit import GroupCommit, Unavailable
from services.ingress.request_stats import UNKNOWN, RequestStats
from services.ingress.secret_cache import FLEET_SLUG, SecretCache, live_secrets
from services.ingress.webhook_request import (
    PREFIX,
    HttpRequest,
    HttpResponse,
    RequestLog,
    WebhookRoute,
    describe_error,
)
from services.ledger.accept import AcceptedEvent, NewEvent
from services.ledger.request_errors import NO_FAULT
from services.ledger.topics import plan_topic
from services.providers.delivery import INVALID_SIGNATURE, MISSING_HEADER, WebhookDelivery, is_storable
from services.providers.registry import WEBHOOK_PROVIDERS
from services.shops.secrets import WebhookKey

MAX_PATH = 1024
"""Characters. Above 65,534 bytes granian's HTTP parser answers 414 without a body."""
MAX_BODY_BYTES = 5 * 1024 * 1024
RETRY_AFTER_SECONDS = 5
PAUSED_RETRY_AFTER_SECONDS = 60
RELOAD_AT_MOST_EVERY_SECONDS = 0.02
RELOAD_WITHIN_SECONDS = 1.2
"""The longest wait for one reload of the secrets. A request waits for at most two and for its commit: less
than the 5 seconds after which Shopify gives up, also if the database is frozen and its connections stay open.
"""

DUPLICATE_HEADER = "duplicate_header"
WRONG_SHOP = "wrong_shop"
_REFUSED_BY_NAME = {WRONG_SHOP: 401, MISSING_HEADER: 400, DUPLICATE_HEADER: 400}
"""Error codes of refused deliveries with a valid signature, with the HTTP status."""


class BodyTooLarge(Exception):
    """The body has more than ``MAX_BODY_BYTES``; the rest was not read."""


def find_route(path: str) -> WebhookRoute | None:
    if len(path) > MAX_PATH:
        return None
    name, *rest = path.removeprefix(PREFIX).split("/")
    provider = WEBHOOK_PROVIDERS.get(name)
    if provider is None or provider.read is None or not all(rest):
        return None
    secret, read, identifying = provider.webhook_secret.name, provider.read, provider.identifying_headers
    match rest:
        case [slug, source] if provider.has_sources:
            return WebhookRoute(f"{name}:{source}", slug, f"{secret}:{source}", read, identifying)
        case [slug] if not provider.has_sources:
            return WebhookRoute(name, slug, secret, read, identifying)
    return None


class HttpError(Exception):
    """Ends a request with this status and error code."""

    def __init__(
        self, status: int, error: str, *, retry_after_seconds: int = 0, refusal_detail: str = ""
    ) -> None:
        super().__init__(error)
        self.status, self.error, self.retry_after_seconds = status, error, retry_after_seconds
        self.refusal_detail = refusal_detail


def _unavailable() -> HttpError:
    return HttpError(503, "unavailable", retry_after_seconds=RETRY_AFTER_SECONDS)


class WebhookEndpoint:
    """Answers ``POST /webhooks/...``."""

    def __init__(self, secrets: SecretCache, commits: GroupCommit, stats: RequestStats) -> None:
        self._secrets, self._commits, self._stats = secrets, commits, stats
        self._next_reload: asyncio.Future[bool] | None = None
        self._reloaded_at = float("-inf")

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Return the response to ``request``: always JSON, always with ``X-Request-Id``."""
        log = RequestLog(utc_now(), uuid4().hex, find_route(request.path))
        headers = [("content-type", "application/json"), ("x-request-id", log.request_id)]
        status, outcome = 200, "ignored"
        try:
            accepted = await self._accept(request, log)
            if accepted is not None:
                outcome = "accepted" if accepted.is_new else "duplicate"
            body = orjson.dumps({"status": outcome} | ({"id": accepted.event_id} if accepted else {}))
        except Exception as fault:  # noqa: BLE001 - after a bug the response is 503
            if not isinstance(fault, HttpError):
                slug = log.route.slug if log.route else ""
                capture_bug(fault, topic="ingress", shop=slug, request_id=log.request_id)
            refusal = fault if isinstance(fault, HttpError) else _unavailable()
            status, outcome, log.refusal_detail = refusal.status, refusal.error, refusal.refusal_detail
            body = orjson.dumps({"error": outcome})
            if refusal.retry_after_seconds:
                headers.append(("retry-after", str(refusal.retry_after_seconds)))
            if status == 405:
                headers.append(("allow", "POST"))
            if status >= 500 and outcome not in NO_FAULT:
                self._stats.add_error(describe_error(request, log, status, fault))
        self._record(log, status, outcome, request.find_sender() if outcome == INVALID_SIGNATURE else "")
        return HttpResponse(status, headers, body)

    async def _accept(self, request: HttpRequest, log: RequestLog) -> AcceptedEvent | None:
        """Return the recorded event; None if its shop was removed: the provider must not send it again."""
        route = log.route
        if route is None:
            is_long = len(request.path) > MAX_PATH
            raise HttpError(414, "uri_too_long") if is_long else HttpError(404, "not_found")
        if request.method != "POST":
            raise HttpError(405, "method_not_allowed")
        try:
            body = await request.read_body()
        except BodyTooLarge as fault:
            raise HttpError(413, "too_large") from fault
        except Unavailable as fault:
            raise _unavailable() from fault
        log.size_bytes = len(body)
        log.delivery, key = await self._verify(route, request, body, log.now)
        shop_id, log.secret_id = key.shop_id, key.ids[log.delivery.secret_index]
        if shop_id in self._secrets.snapshot.removed:
            return None
        self._refuse_paused(shop_id, route, log.delivery)
        event = NewEvent(
            shop_id=shop_id,
            provider=route.provider,
            topic=log.delivery.topic,
            delivery_key=log.delivery.delivery_key,
            headers=log.delivery.headers,
            body=body,
            received_at=log.now,
            occurred_at=log.delivery.occurred_at,
            request_id=log.request_id,
            key=log.delivery.key,
            readable=log.delivery.readable,
        )
        try:
            log.accepted = await self._commits.record(event)
        except Unavailable as fault:
            raise _unavailable() from fault
        return log.accepted

    async def _verify(
        self, route: WebhookRoute, request: HttpRequest, body: bytes, now: datetime
    ) -> tuple[WebhookDelivery, WebhookKey]:
        """Return the delivery and the secrets of the shop in the path: only these verify it."""
        secrets = self._secrets
        refused: WebhookRejected | None = None
        for _attempt in range(2):
            snapshot = secrets.snapshot
            key = snapshot.keys.get((route.slug, route.secret_name))
            try:
                delivery = route.read(request.headers, body, live_secrets(key, now), now)
                if key is not None:
                    _check_headers(route, request, delivery, snapshot.domains.get(key.shop_id))
                    return delivery, key
                break  # signed with the dummy secret
            except WebhookRejected as fault:
                refused = fault
                # The secret or the domain may have been set a moment ago.
                if not await self._reload():
                    raise _unavailable() from Unavailable("the secrets cannot be read now")
                if secrets.snapshot is snapshot:
                    break
        refused = refused or WebhookRejected(INVALID_SIGNATURE)
        raise self._refusal(route, refused) from refused

    async def _reload(self) -> bool:
        """Reload the secrets after this call; return whether that succeeded in ``RELOAD_WITHIN_SECONDS``.

        All requests that wait share one reload, with at most fifty reloads a second.
        """
        if self._next_reload is None:
            self._next_reload = asyncio.ensure_future(self._reload_soon())
        try:
            return await asyncio.wait_for(asyncio.shield(self._next_reload), RELOAD_WITHIN_SECONDS)
        except TimeoutError:
            return False

    async def _reload_soon(self) -> bool:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._reloaded_at + RELOAD_AT_MOST_EVERY_SECONDS - loop.time()))
        self._next_reload = None  # a later request needs a reload that starts later
        self._reloaded_at = loop.time()
        return await loop.run_in_executor(None, self._secrets.reload)

    def _refusal(self, route: WebhookRoute, refused: WebhookRejected) -> HttpError:
        snapshot = self._secrets.snapshot
        if route.slug not in snapshot.shop_ids and route.slug != FLEET_SLUG:
            return HttpError(404, "unknown_shop")
        key = snapshot.keys.get((route.slug, route.secret_name))
        if key is not None and refused.code in _REFUSED_BY_NAME:
            return HttpError(_REFUSED_BY_NAME[refused.code], refused.code, refusal_detail=str(refused))
        if key is not None and key.is_unreadable:
            raise _unavailable() from Unavailable("SECRET_KEY does not open the secret")
        return HttpError(401, INVALID_SIGNATURE)

    def _refuse_paused(self, shop_id: int, route: WebhookRoute, delivery: WebhookDelivery) -> None:
        if not self._secrets.snapshot.refusals:
            return
        topic = plan_topic(route.provider, delivery.topic)
        queue, name = (topic.queue, topic.name) if topic else ("", "")
        if self._secrets.is_refused(shop_id, queue, name):
            raise HttpError(503, "paused", retry_after_seconds=PAUSED_RETRY_AFTER_SECONDS)

    def _record(self, log: RequestLog, status: int, outcome: str, sender: str) -> None:
        route, delivery, accepted = log.route, log.delivery, log.accepted
        # The text of an unknown sender must not become a label of a statistic.
        is_known = route and (route.slug in self._secrets.snapshot.shop_ids or outcome == "ignored")
        slug, provider = (route.slug, self._name(route)) if route and is_known else (UNKNOWN, UNKNOWN)
        duration_ms = (time.perf_counter() - log.began) * 1000
        self._stats.count(
            log.now,
            slug,
            provider,
            outcome,
            PREFIX + provider,
            status,
            duration_ms,
            log.refusal_detail,
            log.secret_id if accepted else 0,
            sender,
        )
        log_request(
            request_id=log.request_id,
            shop=slug,
            provider=provider,
            topic=_shown_topic(route, delivery) if route and delivery else "",
            status=status,
            outcome=outcome,
            duration_ms=duration_ms,
            size_bytes=log.size_bytes,
            event_id=accepted.event_id if accepted else None,
        )

    def _name(self, route: WebhookRoute) -> str:
        """Return the provider for statistics; a source without a secret is free text."""
        name, colon, _ = route.provider.partition(":")
        is_known = not colon or (route.slug, route.secret_name) in self._secrets.snapshot.keys
        return route.provider if is_known else f"{name}:{UNKNOWN}"


def _shown_topic(route: WebhookRoute, delivery: WebhookDelivery) -> str:
    """Return the topic for the log; an unknown topic is free text and therefore redacted."""
    is_known = plan_topic(route.provider, delivery.topic) is not None
    return delivery.topic if is_known else redact_text(delivery.topic)


def _check_headers(
    route: WebhookRoute, request: HttpRequest, delivery: WebhookDelivery, domains: tuple[str, ...] | None
) -> None:
    """Raise ``WebhookRejected`` if headers of a signed delivery contradict each other or ``domains``.

    A delivery without the header of the domain is accepted, because the header is not signed.
    """
    if repeated := request.repeated & route.identifying:
        name = min(repeated)
        raise WebhookRejected(
            DUPLICATE_HEADER, f"the header {name} occurs more than once, with different values"
        )
    domain = delivery.shop_domain
    if domain and domains is not None and domain not in domains:
        shown = redact_text(domain) if is_storable(domain) else "longer than a name or not plain text"
        raise WebhookRejected(
            WRONG_SHOP,
            f"X-Shopify-Shop-Domain is {shown}, the shop's domain is {domains[-1]}; if Shopify renamed "
            f"the shop, run `fleet shops set {route.slug} --shopify-domain`",
        )
