"""Every GraphQL object that one shop of the sandbox answers with: its orders here, the rest in its goods."""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from services.sandbox.shopify import records as kinds
from services.sandbox.shopify.inventory_nodes import Goods
from services.sandbox.shopify.order_nodes import (
    fulfillment_node,
    fulfillment_order_node,
    line_node,
    order_node,
    refund_line_node,
    refund_node,
    refund_shipping_node,
    return_node,
    shop_amount,
    transaction_node,
)
from services.sandbox.shopify.records import Body, Records
from services.sandbox.shopify.values import Node, bag, gid


class Nodes:
    """Reads records; keeps what it made of an order until the order changes."""

    def __init__(self, records: Records, goods: Goods) -> None:
        self._records, self._goods = records, goods
        self._orders: dict[int, tuple[Body, Node]] = {}

    def find(self, text: str) -> Node | None:
        """Return the object of any kind with this gid, or None."""
        kind, _, rest = text.removeprefix("gid://shopify/").partition("/")
        digits, _, item = rest.partition("?inventory_item_id=")
        if not digits.isdecimal():
            return None
        number, goods = int(digits), self._goods
        if kind == "InventoryLevel":
            return goods.level((int(item), number)) if item.isdecimal() else None
        ways: dict[str, Callable[[int], Node | None]] = {
            "InventoryItem": lambda one: goods.item(one) if goods.knows_item(one) else None,
            "Location": lambda one: goods.location(one) if goods.knows_location(one) else None,
            "Product": goods.product,
            "Order": self.order,
            "Refund": self.refund,
            "Fulfillment": self.fulfillment,
            "Return": self.order_return,
            "FulfillmentOrder": self.fulfillment_order,
            "OrderTransaction": self.transaction,
        }
        return ways[kind](number) if kind in ways else None

    def orders(self) -> list[Node]:
        """Return every Order."""
        return [node for number in self._records.bodies[kinds.ORDERS] if (node := self.order(number))]

    def order(self, number: int) -> Node | None:
        """Return the Order, or None."""
        body = self._records.bodies[kinds.ORDERS].get(number)
        if body is None:
            return None
        made = self._orders.get(number)
        if made is None or made[0] is not body:
            made = self._orders[number] = (body, self._make_order(number, body))
        made[1]["_updatedAt"] = self._records.touched_at[number]
        return made[1]

    def refund(self, number: int) -> Node | None:
        """Return the Refund, or None."""
        body = self._records.bodies[kinds.REFUNDS].get(number)
        if body is None:
            return None
        currency = self._currency_of(body)
        entries = [
            refund_line_node(entry, currency)
            | {
                "location": self._find_location(entry.get("location_id")),
                "lineItem": self._refunded_line(entry, currency),
            }
            for entry in body.get("refund_line_items") or ()
        ]
        return refund_node(body, currency) | {
            "refundLineItems": entries,
            "refundShippingLines": [
                refund_shipping_node(entry, currency) for entry in body.get("refund_shipping_lines") or ()
            ],
            "transactions": [self.transaction(entry["id"]) for entry in body.get("transactions") or ()],
            "order": self._order_of(body),
        }

    def transaction(self, number: int) -> Node | None:
        """Return the OrderTransaction, or None."""
        body = self._records.bodies[kinds.TRANSACTIONS].get(number)
        if body is None:
            return None
        parent = body.get("parent_id")
        return transaction_node(body) | {
            "order": self._order_of(body),
            "parentTransaction": lambda **_asked: self._parent(parent) if parent else None,
        }

    def fulfillment(self, number: int) -> Node | None:
        """Return the Fulfillment, or None."""
        body = self._records.bodies[kinds.FULFILLMENTS].get(number)
        if body is None:
            return None
        return fulfillment_node(body) | {
            "order": self._order_of(body),
            "location": self._find_location(body.get("location_id")),
        }

    def order_return(self, number: int) -> Node | None:
        """Return the Return, or None."""
        body = self._records.bodies[kinds.RETURNS].get(number)
        return None if body is None else return_node(body) | {"order": self._order_of(body)}

    def fulfillment_orders(self) -> list[Node]:
        """Return every FulfillmentOrder."""
        held = self._records.bodies[kinds.FULFILLMENT_ORDERS]
        return [node for number in held if (node := self.fulfillment_order(number))]

    def fulfillment_order(self, number: int) -> Node | None:
        """Return the FulfillmentOrder, or None."""
        body = self._records.bodies[kinds.FULFILLMENT_ORDERS].get(number)
        if body is None:
            return None
        location = self._find_location(body.get("assigned_location_id"))
        return fulfillment_order_node(body) | {"assignedLocation": {"location": location}}

    def _make_order(self, number: int, body: Body) -> Node:
        return order_node(body) | {
            "lineItems": [self._line(line, body["currency"]) for line in body.get("line_items") or ()],
            "refunds": partial(self._parts, kinds.REFUNDS, number),
            "transactions": partial(self._parts, kinds.TRANSACTIONS, number),
            "fulfillments": partial(self._parts, kinds.FULFILLMENTS, number),
            "returns": partial(self._parts, kinds.RETURNS, number),
            "retailLocation": self._find_location(body.get("location_id")),
            "totalRefundedSet": partial(self._refunded, number, body["currency"]),
        }

    def _parts(self, kind: str, order_id: int, **_asked: Any) -> list[Node | None]:
        make = {
            kinds.REFUNDS: self.refund,
            kinds.TRANSACTIONS: self.transaction,
            kinds.FULFILLMENTS: self.fulfillment,
            kinds.RETURNS: self.order_return,
        }[kind]
        return [make(int(body["id"])) for body in self._records.parts(kind, order_id)]

    def _refunded(self, order_id: int, currency: str, **_asked: Any) -> Node:
        total = sum(
            (
                shop_amount(body)
                for body in self._records.parts(kinds.TRANSACTIONS, order_id)
                if body["kind"] == "refund" and body["status"] == "success"
            ),
            Decimal(0),
        )
        return bag(None, total, currency)

    def _line(self, line: Body, currency: str) -> Node:
        return line_node(line, currency) | {
            "product": lambda **_asked: self._goods.sold(line)[0],
            "variant": lambda **_asked: self._goods.sold(line)[1],
        }

    def _refunded_line(self, entry: Body, currency: str) -> Node:
        line = entry.get("line_item") or {"id": entry["line_item_id"], "quantity": entry["quantity"]}
        return self._line(line, currency)

    def _find_location(self, number: object) -> Node | None:
        return None if number is None else self._goods.location(int(str(number)))

    def _order_of(self, body: Body) -> Any:
        number = int(body["order_id"])
        return lambda **_asked: self.order(number) or _bare("Order", number)

    def _parent(self, number: int) -> Node | None:
        return self.transaction(number) or _bare("OrderTransaction", number)

    def _currency_of(self, refund: Body) -> str:
        for given in refund.get("transactions") or ():
            bag_of = given.get("amount_set")
            return str(bag_of["shop_money"]["currency_code"] if bag_of else given["currency"])
        order = self._records.bodies[kinds.ORDERS].get(int(refund["order_id"]))
        return str((order or self._goods.shop()).get("currency") or self._goods.shop()["currencyCode"])


def _bare(kind: str, number: object) -> Node | None:
    return {"__typename": kind, "id": gid(kind, number), "legacyResourceId": str(number)} if number else None
