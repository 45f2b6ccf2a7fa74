"""One shop of the sandbox behind its Admin API: access, cost, and answers."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import graphql

from services.core.clock import utc_now
from services.sandbox.faults import ControlInvalid, Faults
from services.sandbox.shopify import records as kinds
from services.sandbox.shopify.bulk import BulkOperations
from services.sandbox.shopify.cost import MOST_POINTS, Bucket, count_points
from services.sandbox.shopify.graph import Graph
from services.sandbox.shopify.records import Records, Subscriptions
from services.sandbox.shopify.schema import DocumentRefused, read_document
from services.sandbox.shopify.stock import Stock
from services.sandbox.shopify.tokens import Tokens
from services.sandbox.shopify.values import instant, utc_text

Answer = tuple[int, dict[str, Any]]

_STATES: Mapping[str, tuple[int, str]] = {
    "open": (200, ""),
    "frozen": (402, "This shop is unavailable"),
    "locked": (423, "This shop is locked"),
    "closed": (404, "Not Found"),
}
_DOCUMENTATION = "https://shopify.dev/api/usage/rate-limits"


@dataclass
class ShopifyShop:
    domain: str
    clock: Callable[[], float] = time.monotonic
    state: str = "open"
    faults: Faults = field(default_factory=Faults)
    counts: dict[str, int] = field(default_factory=dict)
    bulk_url: str = "http://127.0.0.1:9000/shopify/bulk"

    def __post_init__(self) -> None:
        self.bucket = Bucket(self.clock, at=self.clock())
        self.tokens = Tokens(self.clock)
        self.stock = Stock(self.domain, self.faults, self.clock)
        self.levels, self.log = self.stock.levels, self.stock.log
        self.records, self.subscriptions = Records(), Subscriptions()
        self.bulk = BulkOperations(self.bulk_url)
        self.graph = Graph(self.domain, self.records, self.stock, self.subscriptions, self.bulk)

    def control(self, request: dict[str, Any]) -> None:
        """Apply a control request; ``services.sandbox.serve`` lists its fields."""
        self.tokens.control(request)
        self.faults.set(request)
        if "bucket" in request:
            self.bucket.set(request["bucket"])
        if "state" in request:
            if request["state"] not in _STATES:
                raise ControlInvalid(f"state={request['state']!r} should be one of {', '.join(_STATES)}")
            self.state = request["state"]
        self.stock.is_strict = bool(request.get("strict_stock", self.stock.is_strict))
        self.stock.deleted_items |= {int(number) for number in request.get("deleted_items", ())}
        self.subscriptions.denied = set(request.get("denied_topics", self.subscriptions.denied))
        self.graph.scopes = tuple(request.get("scopes", self.graph.scopes))
        self.bulk.fail_next = int(request.get("fail_bulk_next", self.bulk.fail_next))
        self.graph.denied = set(request.get("denied_fields", self.graph.denied))
        now = utc_text(utc_now())
        self._set_levels("levels", request.get("levels", ()), now)
        self._set_levels(kinds.LEVELS, request.get(kinds.LEVELS, ()), now)
        for kind in kinds.KINDS:
            self.records.store(kind, request.get(kind, ()))
        for webhook in request.get("webhooks", ()):
            self._apply_webhook(str(webhook["topic"]), webhook["body"], now)
        for sale in request.get("sales", ()):
            self._apply_webhook(str(sale["topic"]), sale["body"], now)
            if str(sale.get("inventory_behaviour") or "").lower() != "bypass":
                self._sell(str(sale["topic"]), sale["body"])
        for topic_and_uri in request.get("subscriptions", ()):
            self.subscriptions.create(topic_and_uri["topic"], topic_and_uri, now)
        for name in request.get("delete_subscriptions", ()):
            self.subscriptions.delete_all(str(name))

    def answer(self, token: str, request: dict[str, Any], now: datetime) -> Answer:
        failure = self.faults.take_failure()
        if failure:
            return self._count(f"failed_{failure}", (failure, {"errors": f"sandbox fault {failure}"}))
        status, message = _STATES[self.state]
        if message:
            return self._count(self.state, (status, {"errors": message}))
        if not self.tokens.accepts(token):
            wrong = "[API] Invalid API key or access token (unrecognized login or wrong password)"
            return self._count("unauthorized", (401, {"errors": wrong}))

        try:
            tree = read_document(str(request.get("query", "")))
        except DocumentRefused as refused:
            return self._count("answered", (200, {"errors": refused.errors}))
        return self._execute(tree, request.get("operationName"), request.get("variables") or {}, now)

    def _execute(
        self, tree: graphql.DocumentNode, name: str | None, variables: dict[str, Any], now: datetime
    ) -> Answer:
        operation = graphql.get_operation_ast(tree, name)
        if operation is None:
            error = {"message": f"No operation named {name!r}", "extensions": {"code": "BAD_REQUEST"}}
            return self._count("answered", (200, {"errors": [error]}))
        requested = count_points(tree, operation, variables)
        if requested > MOST_POINTS:
            text = (
                f"Query cost is {requested}, which exceeds the single query max cost limit ({MOST_POINTS})."
            )
            error = {"message": text, "extensions": {"code": "MAX_COST_EXCEEDED", "cost": requested,
                     "maxCost": MOST_POINTS, "documentation": _DOCUMENTATION}}  # fmt: skip
            return self._count("too_expensive", (200, {"errors": [error]}))
        if not self.bucket.take(requested):
            code = {"code": "THROTTLED", "documentation": _DOCUMENTATION}
            error = {"message": "Throttled", "extensions": code}
            cost = self.bucket.describe(requested, None)
            return self._count("throttled", (200, {"errors": [error], "extensions": cost}))
        data, errors = self.graph.execute(tree, name, variables, now)
        if data is None and not any("path" in error for error in errors):
            self.bucket.give_back(requested)
            return self._count("answered", (200, {"errors": errors}))
        if self.stock.replayed:
            self.counts["replayed"] = self.stock.replayed
        actual = count_points(tree, operation, variables, data) if data else requested
        self.bucket.give_back(requested - actual)
        body: dict[str, Any] = {"data": data, "extensions": self.bucket.describe(requested, actual)}
        return self._count("answered", (200, body | ({"errors": errors} if errors else {})))

    def refresh_token(self, request: dict[str, Any]) -> Answer:
        failure = self.faults.take_failure()
        if failure:
            return self._count(f"failed_{failure}", (failure, {"errors": f"sandbox fault {failure}"}))
        status, body = self.tokens.refresh(request)
        return self._count("token_refreshed" if status == 200 else "token_refused", (status, body))

    def _apply_webhook(self, topic: str, body: dict[str, Any], now: str) -> None:
        """Apply a webhook that Shopify sent, whether it arrived or not."""
        kind, _, what = topic.partition("/")
        if kind in (kinds.FULFILLMENT_ORDERS, kinds.RETURNS):
            return  # its body is partial: the whole object comes under the name of the kind
        if topic == "inventory_levels/disconnect":
            self._set_levels(topic, [body | {"available": None}], now)
        elif kind == kinds.LEVELS:
            self._set_levels(topic, [body], now)
        elif topic == "shop/update":
            self.records.shop = body
        elif kind in kinds.KINDS and what == "delete":
            self.records.bodies[kind].pop(int(body["id"]), None)
        elif kind in kinds.KINDS:
            self.records.store(kind, [body])

    def _sell(self, topic: str, body: dict[str, Any]) -> None:
        """Change the stock by an order's lines (found by their variants) or by a refund."""
        if topic.startswith("orders/") and topic not in ("orders/delete", "orders/edited"):
            at = instant(body.get("updated_at")) or utc_text(utc_now())
            for line in body.get("line_items") or ():
                item = self.records.items_of_variants.get(int(line.get("variant_id") or 0))
                place = self.stock.find_place(item, body.get("location_id")) if item else None
                if place:
                    is_open = body.get("location_id") is None
                    self.stock.sell(int(line["id"]), place, int(line["quantity"]), at, is_open=is_open)
        elif topic == "refunds/create":
            at = instant(body.get("created_at")) or utc_text(utc_now())
            for line in body.get("refund_line_items") or ():
                if line.get("restock_type") in ("return", "cancel") and line.get("location_id"):
                    self.stock.restock(
                        int(line["id"]), int(line["line_item_id"]), int(line["location_id"]),
                        int(line["quantity"]), at,
                    )  # fmt: skip

    def _set_levels(self, name: str, levels: Iterable[dict[str, Any]], now: str) -> None:
        for level in levels:
            try:
                place = (int(level["inventory_item_id"]), int(level["location_id"]))
                available = level["available"]
            except KeyError as missing:
                raise ControlInvalid(f"{name} needs {missing} in every entry") from None
            at = instant(level.get("updated_at"))
            if at is None or at >= self.stock.changed_at.get(place, ""):
                self.stock.set_level(place, None if available is None else int(available), at or now)

    def _count(self, outcome: str, answer: Answer) -> Answer:
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        return answer
