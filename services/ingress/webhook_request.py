"""A request to a webhook URL: what came, what is known of it for the log, and its record if it fails."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.ingress.group_commit import Unavailable
from services.ingress.request_stats import UNKNOWN
from services.ledger.accept import AcceptedEvent
from services.ledger.request_errors import RequestError, clean_text, find_origin
from services.providers.delivery import WebhookDelivery, is_storable
from services.providers.provider import ReadDelivery

PREFIX = "/webhooks/"

ReadBody = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request. Header names are lower case; ``repeated`` are those with several different values."""

    method: str
    path: str
    headers: Mapping[str, str]
    read_body: ReadBody
    repeated: frozenset[str] = frozenset()
    find_sender: Callable[[], str] = str
    """Returns the client's address; empty: it is not known."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One HTTP response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class WebhookRoute:
    """A webhook URL. ``secret_name`` is the shop's secret for the signature.

    ``identifying`` are the headers that must not be repeated with different values.
    """

    provider: str
    slug: str
    secret_name: str
    read: ReadDelivery
    identifying: frozenset[str]


@dataclass(slots=True)
class RequestLog:
    """The data of a request for the log, filled step by step."""

    now: datetime
    request_id: str
    route: WebhookRoute | None
    delivery: WebhookDelivery | None = None
    accepted: AcceptedEvent | None = None
    secret_id: int = 0
    """The row of the secret that verified it; 0: none did."""
    size_bytes: int = 0
    refusal_detail: str = ""
    began: float = field(default_factory=time.perf_counter)


def describe_error(request: HttpRequest, log: RequestLog, status: int, fault: Exception) -> RequestError:
    """Return the record of a request that failed; headers of an unverified one are only those with ids."""
    route, delivery = log.route, log.delivery
    known = {"method": request.method, "path": request.path}
    if route and delivery:
        known |= {"provider": route.provider, "topic": delivery.topic, "delivery_key": delivery.delivery_key}
    elif route:
        names = sorted(name for name in route.identifying if name.endswith(("-id", "-topic")))
        known |= {name: request.headers[name] for name in names if name in request.headers}
    origin = find_origin(fault)
    return RequestError(
        request_id=log.request_id,
        at=log.now,
        shop=route.slug if route and is_storable(route.slug) else "",
        route=PREFIX + (route.provider if route else UNKNOWN),
        status=status,
        error_class=type(origin).__name__,
        reason=str(origin) if isinstance(origin, Unavailable) else "",
        staff_label="",
        request={name: clean_text(value) for name, value in known.items()},
    )
