"""Stripe's own lists and objects, through Stripe's library, as the plain JSON that Stripe sends.

The library pins ``Stripe-Version``, encodes the question and names the errors; its objects are not used,
as webhooks tell of the same things in plain JSON and both are read by one reader. It is imported at first
use: it takes a second and tens of megabytes that most processes never need. Its own retries are off,
because waiting belongs to the ledger.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from services.core.errors import Misconfigured, Refused, RetryLater
from services.core.redact import quote_value
from services.providers.calls import noted_call
from services.providers.http import parse_retry_after

if TYPE_CHECKING:
    import stripe

TIMEOUT_SECONDS = 20.0
PAGE_SIZE = 100
WAIT_LONGEST = timedelta(hours=1)
NOT_SOON = timedelta(minutes=5)
"""How long to wait at least where Stripe says that trying again does not help (``Stripe-Should-Retry``)."""

NOT_FOUND = "stripe.not_found"

PATHS = MappingProxyType(
    {
        kind: f"/v1/{kind}"
        for kind in (
            "charges", "refunds", "disputes", "payouts", "payment_intents", "balance_transactions", "events"
        )
    }
)  # fmt: skip
"""What can be listed, and where."""


def list_objects(
    key: str,
    base_url: str,
    kind: str,
    *,
    created_gte: datetime | None = None,
    created_lt: datetime | None = None,
    **filters: Any,
) -> Iterator[dict[str, Any]]:
    """Yield every object of ``kind`` (see ``PATHS``) made in [``created_gte``, ``created_lt``); newest first.

    Reads page by page (100 a request) as it is consumed, so a page that is worked on is the only one in
    memory. ``filters`` are Stripe's own (``payout="po_1"``, ``expand=["data.balance_transaction"]``).
    Raises ``RetryLater``, ``Misconfigured`` or ``Refused``, also between two objects. A caller that was
    cut off goes on behind the last object it has seen with ``starting_after=<its id>``: Stripe's pages
    follow objects and not numbers, so what is made meanwhile moves nothing.
    Source: Stripe API reference, "Pagination".
    """
    if kind not in PATHS:
        raise ValueError(f"kind {kind!r} should be one of {', '.join(PATHS)}")
    created = {bound: int(at.timestamp()) for bound, at in (("gte", created_gte), ("lt", created_lt)) if at}
    asked = {"limit": PAGE_SIZE, **({"created": created} if created else {}), **filters}
    with _stripe(key, base_url) as client:
        while True:
            page = _get(client, PATHS[kind], asked)
            objects = page.get("data")
            if not isinstance(objects, list):
                raise RetryLater("stripe.unavailable", f"the answer to a list of {kind} holds no data")
            yield from objects
            if not (page.get("has_more") and objects):
                return
            asked["starting_after"] = _last_id(objects, kind)


def _last_id(objects: list[Any], kind: str) -> str:
    """Return the id of the last of ``objects`` that has one: the next page begins after it."""
    for source in reversed(objects):
        if isinstance(source, dict) and isinstance(source.get("id"), str):
            return str(source["id"])
    raise RetryLater(
        "stripe.unavailable", f"a page of {kind} holds no object with an id, so no next page is known"
    )


def get_object(key: str, base_url: str, url: str, *, context: str = "") -> dict[str, Any]:
    """Return the object at ``url``, a path such as ``/v1/charges/ch_1`` or an event's ``related_object.url``.

    ``context`` names the account that a thin event tells of, where it is another than the key's. Raises
    ``Refused("stripe.not_found")`` where Stripe has none. A whole address is refused: the key goes to
    Stripe only.
    """
    if not url.startswith(("/v1/", "/v2/")):
        raise Refused(
            "stripe.invalid_request", f"url is {quote_value(url)}: it should begin with /v1/ or /v2/"
        )
    with _stripe(key, base_url) as client:
        return _get(client, url, {"stripe_context": context} if context else {})


@contextmanager
def _stripe(key: str, base_url: str) -> "Iterator[stripe.StripeClient]":
    """Yield the library's client over one kept connection."""
    import stripe

    if not key:
        raise Misconfigured("stripe.key_missing", "the shop has no stripe-key")
    with closing(stripe.RequestsClient(timeout=TIMEOUT_SECONDS)) as http:
        yield stripe.StripeClient(
            key, base_addresses={"api": base_url.rstrip("/")}, max_network_retries=0, http_client=http
        )


def _get(client: "stripe.StripeClient", path: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    with noted_call("stripe", _resource(path)):
        with _meaning_of_errors():
            answer: Any = client.raw_request("get", path, **asked).data
        if not isinstance(answer, dict):
            raise RetryLater("stripe.unavailable", f"the answer to {path} is no JSON object")
        return answer


def _resource(path: str) -> str:
    """Return what a restricted key may or may not read: ``/v1/charges/ch_1`` is of ``charges``."""
    parts = path.split("/")
    return "/".join(parts[2:4]) if parts[1] == "v2" else parts[2]


@contextmanager
def _meaning_of_errors() -> Iterator[None]:
    """Turn the library's errors into what happens next. Source: stripe-python, ``stripe/_error.py``."""
    import stripe

    try:
        yield
    except stripe.AuthenticationError as error:
        raise Misconfigured("stripe.key_refused", _said(error)) from error
    except stripe.PermissionError as error:
        raise Misconfigured("stripe.key_refused", _said(error), is_partial=True) from error
    except stripe.RateLimitError as error:
        raise RetryLater("stripe.rate_limited", _said(error), wait=_find_wait(error)) from error
    except stripe.APIConnectionError as error:
        raise RetryLater("stripe.unavailable", "no answer from Stripe") from error
    except stripe.InvalidRequestError as error:
        code = NOT_FOUND if error.http_status == 404 else "stripe.invalid_request"
        raise Refused(code, _said(error)) from error
    except stripe.StripeError as error:
        raise RetryLater("stripe.unavailable", _said(error), wait=_find_wait(error)) from error


def _said(error: Exception) -> str:
    """Return the status and Stripe's code. Its message may hold part of the key, so it stays out."""
    status, code = getattr(error, "http_status", None), getattr(error, "code", None)
    request_id = getattr(error, "request_id", None)
    parts = (f"HTTP {status}" if status else "", code or type(error).__name__, request_id or "")
    return " ".join(part for part in parts if part)


def _find_wait(error: Exception) -> timedelta | None:
    """Return how long Stripe asks to wait: ``Retry-After``, and not soon where it says not to try again."""
    headers = getattr(error, "headers", None) or {}
    not_soon = NOT_SOON if str(headers.get("stripe-should-retry", "")).lower() == "false" else None
    wait = parse_retry_after(headers, WAIT_LONGEST)
    return not_soon if wait is None else max(wait, not_soon or wait)
