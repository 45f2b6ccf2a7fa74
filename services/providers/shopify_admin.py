"""Stock in a Shopify shop, through the Admin GraphQL API 2026-07: set it, read it.

What an answer means is decided in ``services.providers.shopify_answers`` and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater
from services.providers.delivery import find_dict, find_instant
from services.providers.shopify import API_VERSION
from services.providers.shopify_answers import ThrottleStatus, find_throttle, raise_user_errors, read_answer
from services.providers.shopify_documents import READ_LEVEL, SET_AVAILABLE

TIMEOUT = httpx.Timeout(20.0, connect=5.0, pool=5.0)

SET_REASON = "correction"


@dataclass(frozen=True, slots=True)
class SetResult:
    """Shopify holds the quantity. ``changed_at`` is None when it held that quantity already."""

    throttle: ThrottleStatus | None
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Level:
    """What Shopify says is available of one item at one location."""

    available: int
    updated_at: datetime | None
    throttle: ThrottleStatus | None


def admin_base_url(domain: str, api_base: str = "") -> str:
    """Return where the Admin API of ``domain`` is: the shop's own host, or ``<api_base>/<domain>``.

    ``api_base`` is the setting ``SHOPIFY_API_BASE``, which points every shop at one sandbox.
    """
    return f"{api_base.rstrip('/')}/{domain}" if api_base else f"https://{domain}"


class ShopifyAdmin:
    """One shop's Admin API. ``throttle`` is what it last said about its bucket, after errors too."""

    def __init__(self, http: httpx.Client, base_url: str, token: str) -> None:
        self._http = http
        self._url = f"{base_url.rstrip('/')}/admin/api/{API_VERSION}/graphql.json"
        self._token = token
        self.throttle: ThrottleStatus | None = None

    def __repr__(self) -> str:
        return f"ShopifyAdmin({self._url!r})"

    def set_available(
        self,
        quantity: int,
        change_from_quantity: int | None,
        inventory_item_id: int,
        location_id: int,
        reference: str,
        idempotency_key: str,
    ) -> SetResult:
        """Set the available quantity, once per ``idempotency_key``, if it still is ``change_from_quantity``.

        None skips the comparison. ``reference`` is a URI shown in the shop's stock history. A repeat
        under the same key must carry the same values. Raises ``StockMoved`` when the shop's quantity is
        another one by now, ``OutcomeUnknown`` when no answer came, or what else ``read_answer`` finds.
        """
        quantities = {
            "inventoryItemId": f"gid://shopify/InventoryItem/{inventory_item_id}",
            "locationId": f"gid://shopify/Location/{location_id}",
            "quantity": quantity,
            "changeFromQuantity": change_from_quantity,
        }
        asked = {
            "name": "available",
            "reason": SET_REASON,
            "referenceDocumentUri": reference,
            "quantities": [quantities],
        }
        data = self._post(SET_AVAILABLE, {"input": asked, "key": idempotency_key}, changes=True)
        payload = find_dict(data, "inventorySetQuantities")
        raise_user_errors(payload, self.throttle)
        group = find_dict(payload, "inventoryAdjustmentGroup")
        return SetResult(self.throttle, find_instant(group.get("createdAt")))

    def get_available(self, inventory_item_id: int, location_id: int) -> Level:
        """Return the level as the shop has it; raise ``Refused`` where it stocks no such item."""
        variables = {
            "item": f"gid://shopify/InventoryItem/{inventory_item_id}",
            "location": f"gid://shopify/Location/{location_id}",
        }
        data = self._post(READ_LEVEL, variables, changes=False)
        item = find_dict(data, "inventoryItem")
        if not item:
            raise Refused("shopify.invalid_inventory_item", f"the shop has no {variables['item']}")
        level = find_dict(item, "inventoryLevel")
        for entry in level.get("quantities") or ():
            if entry["name"] == "available":
                return Level(entry["quantity"], find_instant(level.get("updatedAt")), self.throttle)
        raise Refused(
            "shopify.item_not_stocked_at_location",
            f"{variables['item']} is not stocked at {variables['location']}",
        )

    def _post(self, document: str, variables: Mapping[str, Any], *, changes: bool) -> dict[str, Any]:
        """Return the ``data`` of the answer. Without an answer a change may have happened, a read has not."""
        try:
            response = self._http.post(
                self._url,
                json={"query": document, "variables": variables},
                headers={"X-Shopify-Access-Token": self._token, "Accept": "application/json"},
                timeout=TIMEOUT,
                follow_redirects=False,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise RetryLater("shopify.unavailable", f"could not connect: {type(error).__name__}") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise Misconfigured(
                "shopify.address_wrong", f"{self._url!r} should begin with https:// and a shop's domain"
            ) from error
        except httpx.HTTPError as error:
            if changes:
                raise OutcomeUnknown("shopify.no_answer", f"sent, then {type(error).__name__}") from error
            raise RetryLater("shopify.no_answer", f"no answer: {type(error).__name__}") from error
        self.throttle = find_throttle(response) or self.throttle
        return read_answer(response, self.throttle, changes=changes)
