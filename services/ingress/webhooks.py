"""The hot route: verify, record, answer. It stands before Flask, which would cost more than all of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

import orjson

from services.core.clock import utc_now
from services.core.errors import Rejected
from services.core.log import log_request
from services.core.redact import redact_text
from services.core.sentry import capture_bug
from services.ingress.group_commit import GroupCommit, Unavailable
from services.ingress.request_stats import UNKNOWN, Counts
from services.ingress.routes import MAX_PATH, Route, find_route
from services.ingress.secret_cache import Keyring, live_secrets
from services.ledger.accept import Accepted, NewEvent
from services.ledger.routing import plan_topic
from services.providers.delivery import INVALID_SIGNATURE, MISSING_HEADER, WebhookDelivery, is_storable

MAX_BODY_BYTES = 5 * 1024 * 1024
RETRY_AFTER_SECONDS = 5
PAUSED_RETRY_AFTER_SECONDS = 60
LOOK_AT_MOST_EVERY_SECONDS = 0.02

DUPLICATE_HEADER = "duplicate_header"
WRONG_SHOP = "wrong_shop"
_REFUSED_BY_NAME = {WRONG_SHOP: 401, MISSING_HEADER: 400, DUPLICATE_HEADER: 400}
"""What a delivery with a right signature may still be refused with, and the status."""

ReadBody = Callable[[], Awaitable[bytes]]


class BodyTooLarge(Exception):
    """The body has more than ``MAX_BODY_BYTES``; the rest of it was not read."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Header names are lower case; ``repeated`` came more than once, with other values."""

    method: str
    path: str
    headers: Mapping[str, str]
    read_body: ReadBody
    repeated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Told(Exception):
    """A request ends here: what it is told."""

    def __init__(self, status: int, error: str, *, retry_after_seconds: int = 0, refused: str = "") -> None:
        super().__init__(error)
        self.status, self.error, self.retry_after_seconds = status, error, retry_after_seconds
        self.refused = refused


def _unavailable() -> _Told:
    return _Told(503, "unavailable", retry_after_seconds=RETRY_AFTER_SECONDS)


@dataclass(slots=True)
class _Story:
    """What there is to tell of a request, as far as it got."""

    now: datetime
    request_id: str
    route: Route | None
    delivery: WebhookDelivery | None = None
    accepted: Accepted | None = None
    size_bytes: int = 0
    refused: str = ""
    began: float = field(default_factory=time.perf_counter)


class Webhooks:
    """Answers ``POST /webhooks/...``; see the contract's table of routes and answers."""

    def __init__(self, keyring: Keyring, commits: GroupCommit, counts: Counts) -> None:
        self._keyring, self._commits, self._counts = keyring, commits, counts
        self._next_look: asyncio.Future[None] | None = None
        self._looked_at = float("-inf")

    async def answer(self, request: Request) -> Answer:
        """Return the answer to ``request``: JSON always, with ``X-Request-Id`` always."""
        story = _Story(utc_now(), uuid4().hex, find_route(request.path))
        headers = [("content-type", "application/json"), ("x-request-id", story.request_id)]
        status, outcome = 200, "accepted"
        try:
            accepted = await self._accept(request, story)
            outcome = "accepted" if accepted.is_new else "duplicate"
            body = orjson.dumps({"status": outcome, "id": accepted.event_id})
        except _Told as told:
            status, outcome, story.refused = told.status, told.error, told.refused
            body = orjson.dumps({"error": outcome})
            if told.retry_after_seconds:
                headers.append(("retry-after", str(told.retry_after_seconds)))
            if status == 405:
                headers.append(("allow", "POST"))
        except Exception as fault:  # noqa: BLE001 - a bug must not look like an accepted event
            slug = story.route.slug if story.route else ""
            capture_bug(fault, topic="ingress", shop=slug, request_id=story.request_id)
            status, outcome = 503, "unavailable"
            body = orjson.dumps({"error": outcome})
            headers.append(("retry-after", str(RETRY_AFTER_SECONDS)))
        self._tell(story, status, outcome)
        return Answer(status, headers, body)

    async def _accept(self, request: Request, story: _Story) -> Accepted:
        route = story.route
        if route is None:
            is_long = len(request.path) > MAX_PATH
            raise _Told(414, "uri_too_long") if is_long else _Told(404, "not_found")
        if request.method != "POST":
            raise _Told(405, "method_not_allowed")
        try:
            body = await request.read_body()
        except BodyTooLarge as fault:
            raise _Told(413, "too_large") from fault
        except Unavailable as fault:
            raise _unavailable() from fault
        story.size_bytes = len(body)
        story.delivery, shop_id = await self._verify(route, request, body, story.now)
        self._refuse_what_is_paused(shop_id, route, story.delivery)
        event = NewEvent(
            shop_id=shop_id,
            provider=route.provider,
            topic=story.delivery.topic,
            delivery_key=story.delivery.delivery_key,
            headers=story.delivery.headers,
            body=body,
            received_at=story.now,
            occurred_at=story.delivery.occurred_at,
            request_id=story.request_id,
            key=story.delivery.key,
            readable=story.delivery.readable,
        )
        try:
            story.accepted = await self._commits.record(event)
        except Unavailable as fault:
            raise _unavailable() from fault
        return story.accepted

    async def _verify(
        self, route: Route, request: Request, body: bytes, now: datetime
    ) -> tuple[WebhookDelivery, int]:
        """Return the delivery and its shop. The shop of the path is judged by its own secrets alone."""
        keyring = self._keyring
        refused = Rejected(INVALID_SIGNATURE)
        for _look in range(2):
            ring = keyring.ring
            key = ring.keys.get((route.slug, route.secret_name))
            try:
                delivery = route.read(request.headers, body, live_secrets(key, now), now)
                if key is not None:
                    _check_headers(route, request, delivery, ring.domains.get(key.shop_id))
                    return delivery, key.shop_id
                break  # whoever signs with nobody's secret is nobody
            except Rejected as fault:
                refused = fault
                await self._look()  # the secret or the domain may have been set a moment ago
                if keyring.ring is ring:
                    break
        raise self._refusal(route, refused) from refused

    async def _look(self) -> None:
        """The ring is what the database said at some moment after this call.

        However many bad signatures arrive, one look serves all that wait for it, fifty times a second
        at most.
        """
        if self._next_look is None:
            self._next_look = asyncio.ensure_future(self._look_soon())
        await asyncio.shield(self._next_look)

    async def _look_soon(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._looked_at + LOOK_AT_MOST_EVERY_SECONDS - loop.time()))
        self._next_look = None  # who comes from here on needs a look that begins later
        self._looked_at = loop.time()
        await loop.run_in_executor(None, self._keyring.reload)

    def _refusal(self, route: Route, refused: Rejected) -> _Told:
        keyring = self._keyring
        if not keyring.is_loaded:
            return _unavailable()
        if route.slug not in keyring.ring.shop_ids:
            return _Told(404, "unknown_shop")
        key = keyring.ring.keys.get((route.slug, route.secret_name))
        if key is not None and refused.code in _REFUSED_BY_NAME:
            return _Told(_REFUSED_BY_NAME[refused.code], refused.code, refused=str(refused))
        if key is not None and key.is_unreadable:
            return _unavailable()
        return _Told(401, INVALID_SIGNATURE)

    def _refuse_what_is_paused(self, shop_id: int, route: Route, delivery: WebhookDelivery) -> None:
        if not self._keyring.ring.refusals:
            return
        topic = plan_topic(route.provider, delivery.topic)
        queue, name = (topic.queue, topic.name) if topic else ("", "")
        if self._keyring.is_refused(shop_id, queue, name):
            raise _Told(503, "paused", retry_after_seconds=PAUSED_RETRY_AFTER_SECONDS)

    def _tell(self, story: _Story, status: int, outcome: str) -> None:
        route, delivery, accepted = story.route, story.delivery, story.accepted
        # A stranger's words must not become figures' names.
        is_known = route is not None and route.slug in self._keyring.ring.shop_ids
        slug, provider = (route.slug, route.provider) if route and is_known else (UNKNOWN, UNKNOWN)
        self._counts.count(story.now, slug, provider, outcome, story.refused)
        log_request(
            request_id=story.request_id,
            shop=slug,
            provider=provider,
            topic=_shown_topic(route, delivery) if route and delivery else "",
            status=status,
            outcome=outcome,
            duration_ms=(time.perf_counter() - story.began) * 1000,
            size_bytes=story.size_bytes,
            event_id=accepted.event_id if accepted else None,
        )


def _shown_topic(route: Route, delivery: WebhookDelivery) -> str:
    """Return the topic as a log may have it: one that plans nothing is a stranger's free text."""
    is_known = plan_topic(route.provider, delivery.topic) is not None
    return delivery.topic if is_known else redact_text(delivery.topic)


def _check_headers(
    route: Route, request: Request, delivery: WebhookDelivery, domains: tuple[str, ...] | None
) -> None:
    """Return if the headers of a signed delivery agree with each other and with the shop's ``domains``.

    The domain's header is not signed: a delivery without it is not compared, as that would prove nothing.
    """
    if repeated := request.repeated & route.identifying:
        name = min(repeated)
        raise Rejected(DUPLICATE_HEADER, f"the header {name} came more than once, with different values")
    domain = delivery.shop_domain
    if domain and domains is not None and domain not in domains:
        shown = redact_text(domain) if is_storable(domain) else "longer than a name or not plain text"
        raise Rejected(
            WRONG_SHOP,
            f"X-Shopify-Shop-Domain is {shown}, the shop's domain is {domains[-1]}; if Shopify renamed "
            f"the shop, run `fleet shops set {route.slug} --shopify-domain`",
        )
