"""Classifies responses of Shopify's Admin GraphQL API. No I/O.

Status codes: shopify.dev, "API response status codes". The cost block: shopify.dev, "Rate limits".
User error codes: the enum ``InventorySetQuantitiesUserErrorCode`` of the 2026-07 schema.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from services.core.errors import Deferred, Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.core.fields import find_object
from services.providers.http import find_json, parse_retry_after

if TYPE_CHECKING:
    import httpx

WAIT_UNSTATED = timedelta(seconds=2)
WAIT_LONGEST = timedelta(hours=1)

ACCESS_REFUSED = "shopify.token_refused"
"""The code of a token that the shop does not accept, or not any more."""
_REFUSED = (ACCESS_REFUSED, "the shop refuses the access token")
_ADDRESS_WRONG = ("shopify.address_wrong", "check the shop's domain and the API version")
_MISCONFIGURED = {
    301: _ADDRESS_WRONG,
    302: _ADDRESS_WRONG,
    401: _REFUSED,
    402: ("shopify.shop_frozen", "the shop is frozen until its bill is paid"),
    403: _REFUSED,
    404: _ADDRESS_WRONG,
    423: ("shopify.shop_locked", "the shop is locked by Shopify"),
}


@dataclass(frozen=True, slots=True)
class ThrottleStatus:
    """The shop's bucket of cost points, as Shopify reported it. ``restore_rate`` is points per second."""

    maximum_available: float
    currently_available: float
    restore_rate: float


class GrantedAccess(NamedTuple):
    """The shop of a token, by its own settings, and what the token may do."""

    domain: str
    currency: str
    timezone: str
    scopes: tuple[str, ...]

    def has(self, scope: str) -> bool:
        """Return whether ``read_...`` is granted, by itself or as a part of ``write_...``."""
        return scope in self.scopes or scope.replace("read_", "write_", 1) in self.scopes


class ShopifyThrottled(Deferred):
    """The bucket is empty and nothing happened. ``wait`` is until it has enough points."""

    def __init__(self, detail: str, *, wait: timedelta, throttle: ThrottleStatus | None) -> None:
        super().__init__("shopify.throttled", detail, wait=wait)
        self.throttle = throttle


class StockMoved(Refused):
    """The shop's quantity changed: read it again and decide again."""

    def __init__(self, detail: str) -> None:
        super().__init__("shopify.stock_moved", detail)


class IdempotencyKeyUsed(Refused):
    """The key was used for a refused attempt, so nothing happened: read again and use another key."""

    def __init__(self, detail: str) -> None:
        super().__init__("shopify.idempotency_previous_attempt_failed", detail)


def find_throttle(response: "httpx.Response") -> ThrottleStatus | None:
    status = find_object(_find_cost_block(response), "throttleStatus")
    names = ("maximumAvailable", "currentlyAvailable", "restoreRate")
    try:
        return ThrottleStatus(*(float(status[name]) for name in names))
    except (KeyError, TypeError, ValueError):
        return None


def find_cost(response: "httpx.Response") -> float | None:
    """Return the points that such a call needs in the bucket: the requested cost, not the actual one."""
    points = _find_cost_block(response).get("requestedQueryCost")
    return float(points) if isinstance(points, int | float) and points > 0 else None


def parse_response(
    response: "httpx.Response", throttle: ThrottleStatus | None, *, changes: bool
) -> dict[str, Any]:
    """Return ``data`` of a successful response; raise the error of another one.

    A gateway timeout (502, 504), or a 200 that is not JSON, leaves the outcome of a change unknown. Any other
    5xx counts as "nothing happened", which is safe because a repeat has the same idempotency key.
    """
    if response.status_code != 200:
        raise _make_status_error(response, throttle, changes=changes)
    body = find_json(response)
    if body is None:
        raise _make_unknown_outcome("the answer is not a JSON object", changes=changes)
    errors = body.get("errors")
    if errors:
        raise _make_document_error(body, errors, throttle)
    data = body.get("data")
    if not isinstance(data, dict):
        raise _make_unknown_outcome("the answer has no data", changes=changes)
    return data


def parse_user_errors(payload: Mapping[str, Any], count: int) -> dict[int, WorkError]:
    """Return the error of each of a mutation's ``userErrors``, by the index of its quantity (of ``count``).

    An error without such an index concerns the whole call and is raised. ``field`` is
    ``["input", "quantities", "3", "changeFromQuantity"]``.
    """
    refused: dict[int, WorkError] = {}
    for error in payload.get("userErrors") or ():
        path = [str(part) for part in error.get("field") or ()]
        index = int(path[2]) if len(path) > 2 and path[2].isdecimal() else count
        fault = _make_user_error(error, path)
        if index >= count or isinstance(fault, RetryLater | IdempotencyKeyUsed):
            raise fault
        refused.setdefault(index, fault)
    return refused


def parse_access(data: Mapping[str, Any]) -> GrantedAccess:
    shop = find_object(data, "shop")
    scopes = find_object(data, "currentAppInstallation").get("accessScopes") or ()
    return GrantedAccess(
        str(shop.get("myshopifyDomain") or "").lower(),
        str(shop.get("currencyCode") or ""),
        str(shop.get("ianaTimezone") or ""),
        tuple(sorted(str(scope.get("handle")) for scope in scopes)),
    )


def _make_user_error(error: Mapping[str, Any], path: list[str]) -> WorkError:
    code = str(error.get("code") or "user_error")
    detail = f"{code}: {error.get('message', '')}" + (f" (field {'.'.join(path)})" if path else "")
    slug = f"shopify.{code.lower()}"
    match code:
        case "CHANGE_FROM_QUANTITY_STALE":
            return StockMoved(detail)
        case "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED":
            return IdempotencyKeyUsed(detail)
        case "IDEMPOTENCY_CONCURRENT_REQUEST":
            return Deferred(slug, detail, wait=WAIT_UNSTATED)
        case "SERVICE_UNAVAILABLE":
            return RetryLater(slug, detail, wait=WAIT_UNSTATED)
    return Refused(slug, detail)


def _make_status_error(
    response: "httpx.Response", throttle: ThrottleStatus | None, *, changes: bool
) -> WorkError:
    status = response.status_code
    detail, wait = f"HTTP {status}", parse_retry_after(response.headers, WAIT_LONGEST)
    if status == 429:
        return ShopifyThrottled(detail, wait=wait or WAIT_UNSTATED, throttle=throttle)
    if status in (502, 504):
        return _make_unknown_outcome(detail, changes=changes)
    if status >= 500:
        return RetryLater("shopify.unavailable", detail, wait=wait)
    if status in _MISCONFIGURED:
        code, reason = _MISCONFIGURED[status]
        return Misconfigured(code, f"{detail}: {reason}")
    return Refused("shopify.request_refused", detail)


def _make_document_error(body: Mapping[str, Any], errors: Any, throttle: ThrottleStatus | None) -> WorkError:
    first = errors[0] if isinstance(errors, list) and isinstance(errors[0], dict) else {"message": errors}
    code = str(find_object(first, "extensions").get("code") or "")
    detail = str(first.get("message", ""))[:300]
    if code == "THROTTLED":
        points = find_object(find_object(body, "extensions"), "cost").get("requestedQueryCost")
        return ShopifyThrottled(detail, wait=_plan_wait(points, throttle), throttle=throttle)
    if code == "ACCESS_DENIED":
        return Misconfigured("shopify.access_denied", f"the token lacks a scope: {detail}", is_partial=True)
    if code == "SHOP_INACTIVE":
        return Misconfigured("shopify.shop_frozen", detail)
    if code in ("INTERNAL_SERVER_ERROR", "TIMEOUT"):
        return OutcomeUnknown("shopify.no_answer", f"{code}: {detail}")
    return Refused(f"shopify.{code.lower() or 'document_refused'}", detail)


def _make_unknown_outcome(detail: str, *, changes: bool) -> WorkError:
    return OutcomeUnknown("shopify.no_answer", detail) if changes else RetryLater("shopify.no_answer", detail)


def _plan_wait(points: object, throttle: ThrottleStatus | None) -> timedelta:
    """Return how long the bucket takes to reach ``points``."""
    if throttle is None or throttle.restore_rate <= 0 or not isinstance(points, int | float):
        return WAIT_UNSTATED
    missing = max(0.0, points - throttle.currently_available)
    return min(WAIT_LONGEST, timedelta(seconds=missing / throttle.restore_rate))


def _find_cost_block(response: "httpx.Response") -> dict[str, Any]:
    return find_object(find_object(find_json(response) or {}, "extensions"), "cost")
