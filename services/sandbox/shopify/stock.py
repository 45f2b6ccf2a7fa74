"""Stock of one shop of the sandbox: levels, all their changes, and all idempotency keys.

It follows the description of ``inventorySetQuantities`` in the 2026-07 schema.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from services.sandbox.faults import ControlInvalid, Faults
from services.sandbox.shopify.values import Node, gid, id_of, utc_text

MOST_QUANTITIES = 250
MOST_PIECES = 1_000_000_000
REASONS = frozenset(
    ("correction", "cycle_count_available", "damaged", "movement_canceled", "movement_created",
     "movement_received", "movement_updated", "other", "promotion", "quality_control", "received",
     "reservation_created", "reservation_deleted", "reservation_updated", "restock", "safety_stock",
     "shrinkage"),
)  # fmt: skip

Place = tuple[int, int]
"""(inventory item id, location id)."""


class InputRefused(Exception):
    """The call is refused as a whole, with a GraphQL error instead of user errors."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.extensions = {"code": code}


@dataclass(slots=True)
class _Attempt:
    fingerprint: bytes
    payload: Node
    until_seconds: float
    """When its answer is sent; until then a request with the same key is refused."""


@dataclass
class Stock:
    """Levels by (inventory item id, location id). An unknown level starts at the expected quantity, unless
    ``is_strict``: then the item is not stocked there."""

    domain: str
    faults: Faults
    clock: Callable[[], float]
    levels: dict[Place, int] = field(default_factory=dict)
    changed_at: dict[Place, str] = field(default_factory=dict)
    locations_of: dict[int, set[int]] = field(default_factory=dict)
    items_at: dict[int, set[int]] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    attempts: dict[str, _Attempt] = field(default_factory=dict)
    deleted_items: set[int] = field(default_factory=set)
    committed: dict[Place, int] = field(default_factory=dict)
    """Pieces of open orders: on hand, and not available."""
    sold: dict[int, tuple[Place, int]] = field(default_factory=dict)
    """The stock that each line of an order took, by its id."""
    restocked: set[int] = field(default_factory=set)
    """Ids of restocked lines of refunds."""
    is_strict: bool = False
    replayed: int = 0

    def set_level(self, place: Place, available: int | None, at: str) -> None:
        """Set the level to ``available`` at ``at``; None: the item is not stocked there any more."""
        if available is None:
            self.levels.pop(place, None)
            self.changed_at.pop(place, None)
            self.locations_of.get(place[0], set()).discard(place[1])
            self.items_at.get(place[1], set()).discard(place[0])
        else:
            self.levels[place] = available
            self.changed_at[place] = at
            self.locations_of.setdefault(place[0], set()).add(place[1])
            self.items_at.setdefault(place[1], set()).add(place[0])

    def on_hand(self, place: Place) -> int:
        """Return the available and committed pieces."""
        return self.levels[place] + self.committed.get(place, 0)

    def find_place(self, item: int, location: int | None) -> Place | None:
        """Return the place that sells ``item``: ``location``, else the first that stocks it, else None."""
        stocked = sorted(self.locations_of.get(item, ()))
        chosen = location if location in stocked or not stocked else stocked[0]
        return (item, chosen) if chosen in stocked and chosen is not None else None

    def sell(self, line_id: int, place: Place, quantity: int, at: str, *, is_open: bool) -> None:
        """Set the pieces that a line takes to ``quantity``; ``is_open``: they are still on hand."""
        place, before = self.sold.get(line_id, (place, 0))
        if place in self.levels and quantity != before:
            self.set_level(place, self.levels[place] - (quantity - before), at)
            if is_open:
                self.committed[place] = self.committed.get(place, 0) + quantity - before
        self.sold[line_id] = (place, quantity)

    def restock(self, refund_line_id: int, line_id: int, location: int, quantity: int, at: str) -> None:
        """Return pieces of a sold line to ``location``, once per refund line."""
        if refund_line_id in self.restocked or line_id not in self.sold:
            return
        self.restocked.add(refund_line_id)
        place = (self.sold[line_id][0][0], location)
        if place in self.levels:
            self.set_level(place, self.levels[place] + quantity, at)
            if place in self.committed:
                self.committed[place] = max(self.committed[place] - quantity, 0)

    def set_quantities(self, request: dict[str, Any], key: str, now: datetime) -> Node:
        """Return the payload of ``inventorySetQuantities``: all quantities changed, or none.

        A repeated ``key`` with the same values returns the same payload and changes nothing.
        """
        quantities = request.get("quantities") or []
        if not key:
            raise InputRefused("The @idempotent directive is required for this mutation", "BAD_REQUEST")
        if len(quantities) > MOST_QUANTITIES:
            most = f"The input array size of {len(quantities)} is greater than the maximum allowed of 250."
            raise InputRefused(most, "MAX_INPUT_SIZE_EXCEEDED")
        if any("changeFromQuantity" not in entry for entry in quantities):
            raise InputRefused("changeFromQuantity must be given, if only as null", "INVALID_VARIABLE")

        fingerprint = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
        earlier = self.attempts.get(key)
        if earlier is None:
            payload = self._apply(request, key, now)
            self.attempts[key] = _Attempt(fingerprint, payload, self.clock() + self.faults.slow_seconds)
            return payload
        if earlier.fingerprint != fingerprint:
            return _refusal("IDEMPOTENCY_KEY_PARAMETER_MISMATCH", None, "The key was used with other values")
        if self.clock() < earlier.until_seconds:
            return _refusal("IDEMPOTENCY_CONCURRENT_REQUEST", None, "A request with this key is running")
        if earlier.payload["userErrors"]:
            return _refusal("IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED", None, "Retry with a new idempotency key")
        self.replayed += 1
        return earlier.payload

    def _apply(self, request: dict[str, Any], key: str, now: datetime) -> Node:
        errors = list(_refuse_header(request))
        changes: dict[Place, tuple[int, int]] = {}
        for index, entry in enumerate(request.get("quantities") or []):
            path = ["input", "quantities", str(index)]
            code, name = "INVALID_INVENTORY_ITEM", "inventoryItemId"
            try:
                item = id_of(entry[name], "InventoryItem")
                code, name = "INVALID_LOCATION", "locationId"
                place = (item, id_of(entry[name], "Location"))
            except ControlInvalid as wrong:
                errors.append(_error(code, [*path, name], str(wrong)))
                continue
            fault = self._find_fault(place, entry, path)
            if fault is None and place in changes:
                twice = "The same item and location are given twice."
                fault = _error("NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR", path, twice)
            if fault is not None:
                errors.append(fault)
            else:
                changes[place] = (self._current(place, entry), entry["quantity"])
        if errors:
            return {"inventoryAdjustmentGroup": None, "userErrors": errors}
        return self._change(changes, request, key, utc_text(now))

    def _find_fault(self, place: Place, entry: Node, path: list[str]) -> Node | None:
        quantity, expected = entry["quantity"], entry["changeFromQuantity"]
        if place[0] in self.deleted_items:
            fault = ("INVALID_INVENTORY_ITEM", "inventoryItemId", "There is no such item.")
        elif self.is_strict and place not in self.levels:
            fault = ("ITEM_NOT_STOCKED_AT_LOCATION", "locationId", "The item is not stocked at the location.")
        elif abs(quantity) > MOST_PIECES:
            extreme = "HIGH" if quantity > 0 else "LOW"
            fault = (f"INVALID_QUANTITY_TOO_{extreme}", "quantity", f"Beyond {MOST_PIECES:,}")
        elif expected not in (None, self._current(place, entry)) or (
            expected is not None and self.faults.take("stale_next")
        ):
            moved = "The changeFromQuantity argument no longer matches the persisted quantity."
            fault = ("CHANGE_FROM_QUANTITY_STALE", "changeFromQuantity", moved)
        else:
            return None
        code, name, message = fault
        return _error(code, [*path, name], message)

    def _current(self, place: Place, entry: Node) -> int:
        expected = entry["changeFromQuantity"]
        return self.levels.get(place, expected if expected is not None else 0)

    def _change(self, changes: dict[Place, tuple[int, int]], request: Node, key: str, at: str) -> Node:
        for (item, location), (before, quantity) in changes.items():
            self.set_level((item, location), quantity, at)
            self.log.append(
                {
                    "shop": self.domain,
                    "idempotency_key": key,
                    "reference": request.get("referenceDocumentUri"),
                    "inventory_item_id": item,
                    "location_id": location,
                    "from": before,
                    "to": quantity,
                    "at": at,
                }
            )
        group = {"id": gid("InventoryAdjustmentGroup", len(self.log)), "createdAt": at}
        return {"inventoryAdjustmentGroup": group, "userErrors": []}


def _refuse_header(request: Node) -> list[Node]:
    errors = []
    if request.get("name", "available") not in ("available", "on_hand"):
        errors.append(_error("INVALID_NAME", ["input", "name"], "available or on_hand"))
    if request.get("reason", "correction") not in REASONS:
        errors.append(_error("INVALID_REASON", ["input", "reason"], "The reason is not one of Shopify's."))
    reference = request.get("referenceDocumentUri")
    if reference is not None and "://" not in reference:
        wrong = "The reference document URI is not a URI."
        errors.append(_error("INVALID_REFERENCE_DOCUMENT", ["input", "referenceDocumentUri"], wrong))
    return errors


def _error(code: str, field_path: list[str] | None, message: str) -> Node:
    return {"code": code, "field": field_path, "message": message}


def _refusal(code: str, field_path: list[str] | None, message: str) -> Node:
    return {"inventoryAdjustmentGroup": None, "userErrors": [_error(code, field_path, message)]}
