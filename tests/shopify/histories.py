"""Hypothesis strategies for days of a small shop: any Shopify topic, equal times, ids beyond 2**53."""

from typing import Any

from hypothesis import strategies as st

from services.shopify.logistics.fulfillments import ingest_fulfillments, ingest_locations
from services.shopify.orders.customers import ingest_customers
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.orders.transactions import ingest_order_transactions
from services.shopify.products.handler import ingest_products
from services.shopify.products.inventory_items import ingest_inventory_items
from services.shopify.shop_profile import ingest_storefronts
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify import logistics_histories as logistics
from tests.shopify.event_strategies import (
    PRODUCTS,
    Event,
    cents,
    customers_of_shop,
    draws,
    items_of_shop,
    locations_of_shop,
    minutes,
    orders_of_shop,
    skus,
    texts,
)  # fmt: skip
from tests.shopify.sample_payloads import ITEM, LOCATION, ORDER, Ingest, at, line


@draws
def order_events(draw: st.DrawFn) -> Event:
    """Draw a state of an order with changing lines, SKUs and customer."""
    number, minute = draw(orders_of_shop), draw(minutes)
    lines = [
        line(number + place, draw(skus), draw(st.integers(0, 3)), draw(cents))
        | {"total_discount": draw(cents), "taxable": draw(st.booleans())}
        | (
            {"tax_lines": [{"title": "GST", "rate": 0.05, "price": draw(cents)}]}
            if draw(st.booleans())
            else {}
        )
        for place in sorted(draw(st.sets(st.integers(1, 3))))
    ]
    customer = {
        "id": draw(customers_of_shop), "first_name": draw(texts), "email": draw(texts),
        "updated_at": draw(st.sampled_from([None, at(1), at(2)])),
    }  # fmt: skip
    body = {
        "id": number, "name": f"#{number % 10}", "currency": "CAD",
        "total_price": draw(st.sampled_from(["12.50", "12.50", "5.00"])),
        "subtotal_price": draw(st.none() | cents), "created_at": at(0), "updated_at": at(minute),
        "financial_status": draw(st.sampled_from(["paid", "paid", "paid", "pending"])),
        "fulfillment_status": draw(st.sampled_from([None, None, "fulfilled"])),
        "cancelled_at": draw(st.sampled_from([None, None, None, at(3)])), "line_items": lines,
        "customer": draw(st.sampled_from([None, customer])), "user_id": draw(st.sampled_from([None, 7])),
    }  # fmt: skip
    return Event(ingest_orders, "orders/updated", body, minute)


@draws
def refund_events(draw: st.DrawFn) -> Event:
    """Draw a state of a refund: payment pending or paid, lines restocked or not."""
    number, place = draw(orders_of_shop), draw(st.integers(1, 2))
    refund_id = number + 500 + place
    restocked = {"id": refund_id + 10, "line_item_id": number + place, "quantity": 1, "location_id": LOCATION,
            "restock_type": draw(st.sampled_from(["return", "no_restock"])), "subtotal": draw(cents),
            "line_item": {"sku": "MUG" if place > 1 else "CUP"}}  # fmt: skip
    paid = {"kind": "refund", "status": draw(st.sampled_from(["pending", "success"])), "amount": draw(cents),
            "currency": "CAD"}  # fmt: skip
    shipping = {"kind": "shipping_refund", "amount": f"-{draw(cents)}", "tax_amount": "-0.50"}
    body = {
        "id": refund_id, "order_id": number, "created_at": at(place), "transactions": [paid],
        "refund_line_items": [restocked] if draw(st.booleans()) else [],
        "order_adjustments": [shipping] if draw(st.booleans()) else [],
    }  # fmt: skip
    return Event(ingest_refunds, "refunds/create", body, place)


@draws
def payment_events(draw: st.DrawFn) -> Event:
    """Draw a transaction or a fulfilment of an order."""
    number, minute = draw(orders_of_shop), draw(minutes)
    body = {
        "id": number + draw(st.integers(700, 701)), "order_id": number, "kind": "sale", "amount": draw(cents),
        "currency": "CAD", "created_at": at(0), "updated_at": at(minute), "gateway": draw(texts),
        "status": draw(st.sampled_from(["pending", "success", "failure", "error", "cancelled"])),
        "authorization": draw(st.sampled_from([None, "ch_3QabcdefXYZ01", "1001"])),
        "line_items": [{"quantity": draw(st.integers(0, 2))}],
    }  # fmt: skip
    if draw(st.booleans()):
        return Event(ingest_order_transactions, "order_transactions/create", body, minute)
    return Event(ingest_fulfillments, "fulfillments/update", body, minute)


@draws
def product_events(draw: st.DrawFn) -> Event:
    """Draw a product with variants; other events may contain its items."""
    place, minute = draw(st.sampled_from([0, 0, 1])), draw(minutes)
    variants = [
        {"id": ITEM + 1000 + k, "inventory_item_id": ITEM + k, "sku": draw(skus), "title": draw(texts),
         "updated_at": at(draw(minutes))}
        for k in sorted(draw(st.sets(st.sampled_from([2 * place, 2 * place + 1]))))
    ]  # fmt: skip
    body = {"id": PRODUCTS[place], "title": draw(texts), "status": draw(texts), "variants": variants,
            "updated_at": at(minute)}  # fmt: skip
    return Event(ingest_products, "products/update", body, minute)


@draws
def level_events(draw: st.DrawFn) -> Event:
    """Draw Shopify's figure of an item at a location."""
    minute = draw(minutes)
    body = {
        "inventory_item_id": draw(items_of_shop),
        "location_id": draw(locations_of_shop),
        "available": draw(st.integers(0, 9)), "updated_at": at(minute),
    }  # fmt: skip
    return Event(ingest_inventory_levels, "inventory_levels/update", body, minute)


@draws
def other_events(draw: st.DrawFn) -> Event:
    """Draw an inventory item, a location, a customer or the shop."""
    minute = draw(minutes)
    base = {"updated_at": at(minute), "name": draw(texts), "first_name": draw(texts), "phone": draw(texts)}
    event: Event = draw(
        st.sampled_from(
            [
                Event(ingest_inventory_items, "inventory_items/update",
                      base | {"id": draw(items_of_shop), "sku": draw(skus), "cost": draw(cents),
                              "tracked": draw(st.booleans())}, minute),
                Event(ingest_locations, "locations/update",
                      base | {"id": LOCATION, "active": draw(st.booleans()), "country_code": "CA",
                              "province_code": draw(st.sampled_from(["BC", "ON"]))}, minute),
                Event(ingest_customers, "customers/update",
                      base | {"id": draw(customers_of_shop)}, minute),
                Event(ingest_storefronts, "shop/update", base | {"id": 9, "currency": "CAD"}, minute),
            ]
        )
    )  # fmt: skip
    return event


def _end(effect: Ingest, topic: str, ids: st.SearchStrategy[int]) -> st.SearchStrategy[Event]:
    """Draw a deletion. Its body has no time."""
    return st.builds(lambda number, minute: Event(effect, topic, {"id": number}, minute), ids, minutes)


order_ends = _end(ingest_orders, "orders/delete", orders_of_shop)
product_ends = _end(ingest_products, "products/delete", st.sampled_from([*PRODUCTS[:1] * 2, *PRODUCTS]))
item_ends = _end(ingest_inventory_items, "inventory_items/delete", items_of_shop)
other_ends = st.one_of(
    _end(ingest_locations, "locations/delete", st.just(LOCATION)),
    _end(ingest_customers, "customers/delete", customers_of_shop),
)
BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "orders/delete": ("orders/updated", {"currency": "CAD", "total_price": "1.00", "created_at": at(0),
                                         "financial_status": "pending", "line_items": []}),
    "products/delete": ("products/update", {"title": "", "variants": []}),
    "inventory_items/delete": ("inventory_items/update", {"sku": "MUG"}),
    "locations/delete": ("locations/update", {"name": "Shop", "active": True}),
    "customers/delete": ("customers/update", {}),
    "inventory_shipments/delete": ("inventory_shipments/create", {"happened_at": at(-60), "status": "DRAFT"}),
}  # fmt: skip
"""State of an object one hour before its deletion; a deletion counts only for a recorded object."""


def base_of(deletion: Event) -> Event:
    """Return the event that records the object of ``deletion``, older than every drawn event."""
    topic, body = BASES[deletion.topic]
    known = body | {"id": deletion.body["id"], "updated_at": at(-60)}
    return Event(deletion.effect, topic, known, -60)


edits = st.builds(
    lambda minute: Event(ingest_orders, "orders/edited", {"order_edit": {"order_id": ORDER}}, minute), minutes
)
cuts = st.builds(
    lambda number, location, minute: Event(
        ingest_inventory_levels,
        "inventory_levels/disconnect",
        {"inventory_item_id": number, "location_id": location},
        minute,
    ),
    items_of_shop,
    locations_of_shop,
    minutes,
)

EVENTS: dict[str, tuple[st.SearchStrategy[Event], ...]] = {
    "orders": (order_events(), order_events(), order_ends, edits),
    "refunds": (refund_events(), refund_events(), order_events(), payment_events()),
    "levels": (level_events(), level_events(), cuts, product_events(), item_ends, order_events()),
    "products": (product_events(), product_events(), product_ends, item_ends, level_events()),
    "parcels": (
        logistics.fulfillment_order_events(),
        logistics.fulfillment_order_events(),
        logistics.scan_events(),
    ),
    "transit": (logistics.transit_events(), logistics.transit_events(), level_events()),
    "returns": (logistics.return_events(), logistics.return_events(), refund_events()),
    "notices": (logistics.notice_events(), logistics.claim_events(), order_events()),
    "others": (other_events(), other_events(), other_ends, order_events()),
}
"""Subjects of a history: few entities and many events within three minutes, so that events collide."""


def histories(about: str) -> st.SearchStrategy[list[Event]]:
    """Draw events in random order; ``all`` mixes every subject."""
    kinds = EVENTS.get(about) or [kind for kinds in EVENTS.values() for kind in kinds]
    return st.lists(st.one_of(*kinds), min_size=2, max_size=20)
