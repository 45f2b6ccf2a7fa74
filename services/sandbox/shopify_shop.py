"""One shop of the sandbox: stock levels behind an Admin GraphQL API that reads what we send.

It knows the documents of ``services.providers.shopify_documents`` by the fields they ask for, not GraphQL
at large. The behaviour is ours, after the descriptions in the 2026-07 schema; that the documents are
valid is shown by a test against the schema itself.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from services.sandbox.bucket import MUTATION_POINTS, QUERY_POINTS, Bucket
from services.sandbox.faults import ControlInvalid, Faults

Answer = tuple[int, dict[str, Any]]

_KEY = re.compile(r"@idempotent\(\s*key:\s*(?:\$(\w+)|\"([^\"]+)\")\s*\)")


@dataclass(slots=True)
class _Attempt:
    fingerprint: bytes
    payload: dict[str, Any]
    refused: bool


@dataclass
class ShopifyShop:
    """Levels by (inventory item id, location id), the log of applied changes, and every key ever used."""

    domain: str
    clock: Callable[[], float] = time.monotonic
    token: str = ""
    """The only token accepted; empty accepts any that is not empty."""
    levels: dict[tuple[int, int], int] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    attempts: dict[str, _Attempt] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bucket = Bucket(self.clock, at=self.clock())

    def control(self, asked: dict[str, Any]) -> None:
        """Take over ``token``, ``bucket``, ``levels`` and faults from a control request."""
        self.token = str(asked.get("token", self.token))
        if "bucket" in asked:
            self.bucket.set(asked["bucket"])
        for level in asked.get("levels", ()):
            try:
                place = (int(level["inventory_item_id"]), int(level["location_id"]))
                self.levels[place] = int(level["available"])
            except KeyError as missing:
                raise ControlInvalid(f"levels needs {missing} in every entry") from None
        self.faults.set(asked)

    def answer(self, token: str, request: dict[str, Any], now: datetime) -> Answer:
        """Return (HTTP status, body) for one GraphQL request."""
        failure = self.faults.take_failure()
        if failure:
            return self._count(f"failed_{failure}", (failure, {"errors": f"sandbox fault {failure}"}))
        if not token or (self.token and token != self.token):
            wrong = "[API] Invalid API key or access token (unrecognized login or wrong password)"
            return self._count("unauthorized", (401, {"errors": wrong}))

        document, variables = str(request.get("query", "")), request.get("variables") or {}
        is_mutation = document.lstrip().startswith("mutation")
        points = MUTATION_POINTS if is_mutation else QUERY_POINTS
        if not self.bucket.take(points):
            error = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}
            body = {"errors": [error], "extensions": self.bucket.cost(points, None)}
            return self._count("throttled", (200, body))
        if is_mutation and "inventorySetQuantities" in document:
            body = self._set_quantities(document, variables, now)
        elif "inventoryLevel(" in document:
            body = {"data": {"inventoryItem": self._read_level(variables, now)}}
        else:
            body = _fault(
                "the sandbox answers inventorySetQuantities and inventoryLevel only", "undefinedField"
            )
        return self._count("answered", (200, body | {"extensions": self.bucket.cost(points, points)}))

    def _set_quantities(self, document: str, variables: dict[str, Any], now: datetime) -> dict[str, Any]:
        found = _KEY.search(document)
        key = "" if found is None else str(variables.get(found[1], "") if found[1] else found[2])
        if not key:
            return _fault("The @idempotent directive is required for this mutation", "BAD_REQUEST")
        asked = variables.get("input") or {}
        for entry in asked.get("quantities", ()):
            if "changeFromQuantity" not in entry:
                return _fault("changeFromQuantity must be given, if only as null", "INVALID_VARIABLE")

        fingerprint = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
        earlier = self.attempts.get(key)
        if earlier is None:
            payload = self._apply(asked, key, now)
            self.attempts[key] = _Attempt(fingerprint, payload, bool(payload["userErrors"]))
        elif earlier.fingerprint != fingerprint:
            payload = _refusal(
                "IDEMPOTENCY_KEY_PARAMETER_MISMATCH", None, "The key was used with other values"
            )
        elif earlier.refused:
            payload = _refusal(
                "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED", None, "Retry with a new idempotency key"
            )
        else:
            self.counts["replayed"] = self.counts.get("replayed", 0) + 1
            payload = earlier.payload
        return {"data": {"inventorySetQuantities": payload}}

    def _apply(self, asked: dict[str, Any], key: str, now: datetime) -> dict[str, Any]:
        """Change all quantities or none. A level never heard of starts at the quantity that was expected."""
        changes = []
        for index, entry in enumerate(asked.get("quantities", ())):
            path = ["input", "quantities", str(index)]
            try:
                item = _id_of(entry["inventoryItemId"], "InventoryItem")
                location = _id_of(entry["locationId"], "Location")
            except ControlInvalid as wrong:
                return _refusal("INVALID_INVENTORY_ITEM", path, str(wrong))
            expected, quantity = entry["changeFromQuantity"], entry["quantity"]
            held = self.levels.get((item, location), expected if expected is not None else 0)
            if not -1_000_000_000 <= quantity <= 1_000_000_000:
                return _refusal("INVALID_QUANTITY_TOO_HIGH", [*path, "quantity"], "Beyond 1,000,000,000")
            if expected is not None and expected != held:
                moved = "The changeFromQuantity argument no longer matches the persisted quantity."
                return _refusal("CHANGE_FROM_QUANTITY_STALE", [*path, "changeFromQuantity"], moved)
            changes.append((item, location, held, quantity))

        at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        for item, location, held, quantity in changes:
            self.levels[item, location] = quantity
            self.log.append(
                {
                    "shop": self.domain,
                    "idempotency_key": key,
                    "reference": asked.get("referenceDocumentUri"),
                    "inventory_item_id": item,
                    "location_id": location,
                    "from": held,
                    "to": quantity,
                    "at": at,
                }
            )
        group = {"id": f"gid://shopify/InventoryAdjustmentGroup/{len(self.log)}", "createdAt": at}
        return {"inventoryAdjustmentGroup": group, "userErrors": []}

    def _read_level(self, variables: dict[str, Any], now: datetime) -> dict[str, Any] | None:
        item, location = _id_of(variables["item"], "InventoryItem"), _id_of(variables["location"], "Location")
        if (item, location) not in self.levels:
            return {"id": variables["item"], "inventoryLevel": None}
        at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        available = {"name": "available", "quantity": self.levels[item, location], "updatedAt": at}
        level_id = f"gid://shopify/InventoryLevel/{location}?inventory_item_id={item}"
        level = {"id": level_id, "updatedAt": at, "quantities": [available]}
        return {"id": variables["item"], "inventoryLevel": level}

    def _count(self, outcome: str, answer: Answer) -> Answer:
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        return answer


def _fault(message: str, code: str) -> dict[str, Any]:
    return {"errors": [{"message": message, "extensions": {"code": code}}]}


def _refusal(code: str, field_path: list[str] | None, message: str) -> dict[str, Any]:
    error = {"code": code, "field": field_path, "message": message}
    return {"inventoryAdjustmentGroup": None, "userErrors": [error]}


def _id_of(gid: object, kind: str) -> int:
    prefix, _, number = str(gid).rpartition("/")
    if prefix != f"gid://shopify/{kind}" or not number.isdecimal():
        raise ControlInvalid(f"{gid!r} should be gid://shopify/{kind}/<number>")
    return int(number)
