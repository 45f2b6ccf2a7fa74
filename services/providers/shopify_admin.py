"""A shop's Admin GraphQL API 2026-07: any document, and its stock levels, set and read in batches.

``services.providers.shopify_answers`` classifies the responses.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import httpx

from services.core.errors import WorkError
from services.core.fields import find_object
from services.providers.call_outcomes import noted_call
from services.providers.delivery import find_instant
from services.providers.http import post
from services.providers.shopify import API_VERSION
from services.providers.shopify_answers import (
    GrantedAccess,
    ThrottleStatus,
    find_cost,
    find_throttle,
    parse_access,
    parse_response,
    parse_user_errors,
)
from services.providers.shopify_documents import READ_ACCESS, READ_LEVELS, READ_SHOP, SET_AVAILABLE

TIMEOUT = httpx.Timeout(20.0, connect=5.0, pool=5.0)

_ITEM, _LOCATION = "gid://shopify/InventoryItem/", "gid://shopify/Location/"
_NAMED = re.compile(r"\s*(?:query|mutation)\s+(\w+)")

SET_AT_MOST = 250
"""Quantities that one ``inventorySetQuantities`` takes."""

READ_AT_MOST = 100
"""Items per query: about four points each, of the 1,000 that a query may cost."""

Renew = Callable[[str], str]
"""Returns a token to use instead of the refused one, or raises ``Misconfigured``."""


class ShopLevelKey(NamedTuple):
    """A level: an inventory item at a location."""

    inventory_item_id: int
    location_id: int


class LevelQuantity(NamedTuple):
    """The new quantity of a level, if it still has ``change_from``; None skips that comparison."""

    place: ShopLevelKey
    quantity: int
    change_from: int | None


class ShopifyLevel(NamedTuple):
    """A level at Shopify. ``on_hand`` includes committed, reserved and damaged units."""

    available: int
    updated_at: datetime | None
    on_hand: int | None = None


@dataclass(frozen=True, slots=True)
class SetLevelsResult:
    """All quantities are set, or none of them if ``refused`` has any, by index.

    ``changed_at`` is None if Shopify had these quantities already.
    """

    changed_at: datetime | None = None
    refused: Mapping[int, WorkError] = field(default_factory=dict)


def admin_base_url(domain: str, api_base: str = "") -> str:
    """Return the base URL of ``domain``'s Admin API: the shop's own host, or ``<api_base>/<domain>``.

    ``api_base`` is the setting ``SHOPIFY_API_BASE``, which points every shop at one sandbox.
    """
    return f"{api_base.rstrip('/')}/{domain}" if api_base else f"https://{domain}"


class ShopifyAdmin:
    """One shop's Admin API. ``throttle`` and ``cost_points`` are of the last response, also of an error.

    ``renew`` is called once for another token if the shop refuses the current one (401).
    """

    def __init__(self, http: httpx.Client, base_url: str, token: str, renew: Renew | None = None) -> None:
        self._http = http
        self._url = f"{base_url.rstrip('/')}/admin/api/{API_VERSION}/graphql.json"
        self._token, self._renew = token, renew
        self.throttle: ThrottleStatus | None = None
        self.cost_points: float | None = None

    def execute(self, document: str, variables: Mapping[str, Any], *, changes: bool) -> dict[str, Any]:
        """Return the ``data`` of the response to ``document``; ``changes``: it is a mutation.

        Without a response a change may have happened (``OutcomeUnknown``). Raises
        ``ShopifyThrottled`` with the wait if the bucket is empty, or another error of ``parse_response``. A
        refused token is renewed and the document sent once more: a 401 means that nothing happened.
        """
        named = _NAMED.match(document)
        with noted_call("shopify", named[1] if named else "document"):
            response = self._post(document, variables, changes=changes)
            if response.status_code == 401 and self._renew is not None:
                self._token = self._renew(self._token)
                response = self._post(document, variables, changes=changes)
            throttle = find_throttle(response)
            self.throttle = throttle or self.throttle
            self.cost_points = find_cost(response) or self.cost_points
            return parse_response(response, throttle, changes=changes)

    def set_available(
        self, quantities: Sequence[LevelQuantity], *, reference: str, idempotency_key: str
    ) -> SetLevelsResult:
        """Set the available quantities, once per ``idempotency_key``: all, or none if one is refused.

        At most ``SET_AT_MOST``. ``reference`` is a URI shown in the shop's stock history. A repeat under the
        same key must carry the same values. Raises as ``execute`` does if the whole call failed.
        """
        entries = [
            {
                "inventoryItemId": f"{_ITEM}{one.place.inventory_item_id}",
                "locationId": f"{_LOCATION}{one.place.location_id}",
                "quantity": one.quantity,
                "changeFromQuantity": one.change_from,
            }
            for one in quantities
        ]
        set_input = {
            "name": "available",
            "reason": "correction",
            "referenceDocumentUri": reference,
            "quantities": entries,
        }
        data = self.execute(SET_AVAILABLE, {"input": set_input, "key": idempotency_key}, changes=True)
        payload = find_object(data, "inventorySetQuantities")
        refused = parse_user_errors(payload, len(entries))
        group = find_object(payload, "inventoryAdjustmentGroup")
        return SetLevelsResult(find_instant(group.get("createdAt")), refused)

    def fetch_domain(self) -> str:
        """Return the shop's ``myshopify.com`` domain, in lower case."""
        data = self.execute(READ_SHOP, {}, changes=False)
        return str(find_object(data, "shop").get("myshopifyDomain") or "").lower()

    def fetch_access(self) -> GrantedAccess:
        return parse_access(self.execute(READ_ACCESS, {}, changes=False))

    def fetch_levels(self, places: Sequence[ShopLevelKey]) -> dict[ShopLevelKey, ShopifyLevel]:
        """Return the levels at Shopify; a level that is not stocked is missing.

        One query for up to ``READ_AT_MOST`` items of a location: most shops stock at one.
        """
        found: dict[ShopLevelKey, ShopifyLevel] = {}
        for location_id, batch in _group_by_location(places):
            variables = {
                "items": [f"{_ITEM}{place.inventory_item_id}" for place in batch],
                "location": f"{_LOCATION}{location_id}",
            }
            nodes = self.execute(READ_LEVELS, variables, changes=False).get("nodes") or ()
            for place, node in zip(batch, nodes, strict=False):
                level = find_object(node or {}, "inventoryLevel")
                by_name = {one["name"]: one["quantity"] for one in level.get("quantities") or ()}
                if "available" in by_name:
                    changed_at = find_instant(level.get("updatedAt"))
                    found[place] = ShopifyLevel(by_name["available"], changed_at, by_name.get("on_hand"))
        return found

    def _post(self, document: str, variables: Mapping[str, Any], *, changes: bool) -> httpx.Response:
        return post(
            "shopify",
            self._url,
            {"X-Shopify-Access-Token": self._token, "Accept": "application/json"},
            http=self._http,
            is_repeatable=not changes,
            host="a shop's domain",
            json={"query": document, "variables": variables},
            timeout=TIMEOUT,
        )


def _group_by_location(places: Sequence[ShopLevelKey]) -> Iterator[tuple[int, list[ShopLevelKey]]]:
    for location_id in sorted({place.location_id for place in places}):
        keys = [place for place in places if place.location_id == location_id]
        for start in range(0, len(keys), READ_AT_MOST):
            yield location_id, keys[start : start + READ_AT_MOST]
