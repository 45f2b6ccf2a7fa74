"""Reads Stripe's lists and objects through Stripe's library, as the JSON that Stripe sends.

The library pins ``Stripe-Version``, encodes requests and classifies errors. Its objects are not used, because
webhooks have the same objects as JSON and one parser reads both. It is imported at first use: it takes a
second and tens of megabytes. Its retries are off, because the ledger retries.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.core.errors import Misconfigured, Refused, RetryLater
from services.core.log_redaction import quote_value
from services.providers.call_outcomes import noted_call
from services.providers.http import parse_retry_after

if TYPE_CHECKING:
    import stripe

TIMEOUT_SECONDS = 20.0
PAGE_SIZE = 100
WAIT_LONGEST = timedelta(hours=1)
WAIT_SHORTEST = timedelta(minutes=5)
"""The shortest wait if a retry does not help (``Stripe-Should-Retry: false``)."""

NOT_FOUND = "stripe.not_found"

KINDS = ("charges", "refunds", "disputes", "payouts", "payment_intents", "balance_transactions", "events")
"""What can be listed, each at ``/v1/<kind>``."""


def fetch_objects(
    key: str,
    base_url: str,
    kind: str,
    *,
    created_gte: datetime | None = None,
    created_lt: datetime | None = None,
    **filters: Any,
) -> Iterator[dict[str, Any]]:
    """Yield objects of ``kind`` (of ``KINDS``) created in [``created_gte``, ``created_lt``), newest first.

    Reads page by page (100 objects) as it is consumed, so one page is in memory. ``filters`` are Stripe's
    (``payout="po_1"``, ``expand=["data.balance_transaction"]``). Raises ``RetryLater``, ``Misconfigured`` or
    ``Refused``, also between two objects. To resume, pass ``starting_after=<id of the last object>``: new
    objects do not shift the pages.
    Source: Stripe API reference, "Pagination".
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} should be one of {', '.join(KINDS)}")
    created = {bound: int(at.timestamp()) for bound, at in (("gte", created_gte), ("lt", created_lt)) if at}
    params = {"limit": PAGE_SIZE, **({"created": created} if created else {}), **filters}
    with _open_client(key, base_url) as client:
        while True:
            page = _get(client, f"/v1/{kind}", params)
            objects = page.get("data")
            if not isinstance(objects, list):
                raise RetryLater("stripe.unavailable", f"the answer to a list of {kind} holds no data")
            yield from objects
            if not (page.get("has_more") and objects):
                return
            last_ids = [
                one["id"] for one in objects if isinstance(one, dict) and isinstance(one.get("id"), str)
            ]
            if not last_ids:
                detail = f"a page of {kind} holds no object with an id, so no next page is known"
                raise RetryLater("stripe.unavailable", detail)
            params["starting_after"] = last_ids[-1]


def fetch_object(key: str, base_url: str, url: str, *, context: str = "") -> dict[str, Any]:
    """Return the object at ``url``, a path such as ``/v1/charges/ch_1`` or an event's ``related_object.url``.

    ``context`` is the account of a thin event, if it is not the key's. Raises
    ``Refused("stripe.not_found")`` if there is none. A full URL is refused: the key is sent to Stripe only.
    """
    if not url.startswith(("/v1/", "/v2/")):
        fault = f"url is {quote_value(url)}: it should begin with /v1/ or /v2/"
        raise Refused("stripe.invalid_request", fault)
    with _open_client(key, base_url) as client:
        return _get(client, url, {"stripe_context": context} if context else {})


@contextmanager
def _open_client(key: str, base_url: str) -> "Iterator[stripe.StripeClient]":
    """Yield the library's client with one kept connection."""
    import stripe

    if not key:
        raise Misconfigured("stripe.no_key", "the shop has no stripe-key")
    with closing(stripe.RequestsClient(timeout=TIMEOUT_SECONDS)) as http:
        yield stripe.StripeClient(
            key, base_addresses={"api": base_url.rstrip("/")}, max_network_retries=0, http_client=http
        )


def _get(client: "stripe.StripeClient", path: str, params: Mapping[str, Any]) -> dict[str, Any]:
    with noted_call("stripe", _get_resource(path)):
        with _translated_errors():
            answer: Any = client.raw_request("get", path, **params).data
        if not isinstance(answer, dict):
            raise RetryLater("stripe.unavailable", f"the answer to {path} is no JSON object")
        return answer


def _get_resource(path: str) -> str:
    """Return the resource of a restricted key's permission: ``charges`` for ``/v1/charges/ch_1``."""
    parts = path.split("/")
    return "/".join(parts[2:4]) if parts[1] == "v2" else parts[2]


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Turn the library's errors into the project's. Source: stripe-python, ``stripe/_error.py``."""
    import stripe

    try:
        yield
    except stripe.AuthenticationError as error:
        raise Misconfigured("stripe.key_refused", _describe(error)) from error
    except stripe.PermissionError as error:
        raise Misconfigured("stripe.key_refused", _describe(error), is_partial=True) from error
    except stripe.RateLimitError as error:
        raise RetryLater("stripe.rate_limited", _describe(error), wait=_find_wait(error)) from error
    except stripe.APIConnectionError as error:
        raise RetryLater("stripe.unavailable", "no answer from Stripe") from error
    except stripe.InvalidRequestError as error:
        code = NOT_FOUND if error.http_status == 404 else "stripe.invalid_request"
        raise Refused(code, _describe(error)) from error
    except stripe.StripeError as error:
        raise RetryLater("stripe.unavailable", _describe(error), wait=_find_wait(error)) from error


def _describe(error: Exception) -> str:
    """Return the status and Stripe's code, not its message, which may contain part of the key."""
    status, code = getattr(error, "http_status", None), getattr(error, "code", None)
    request_id = getattr(error, "request_id", None)
    parts = (f"HTTP {status}" if status else "", code or type(error).__name__, request_id or "")
    return " ".join(part for part in parts if part)


def _find_wait(error: Exception) -> timedelta | None:
    """Return Stripe's ``Retry-After``, at least ``WAIT_SHORTEST`` if a retry does not help."""
    headers = getattr(error, "headers", None) or {}
    minimum = WAIT_SHORTEST if str(headers.get("stripe-should-retry", "")).lower() == "false" else None
    wait = parse_retry_after(headers, WAIT_LONGEST)
    return minimum if wait is None else max(wait, minimum or wait)
