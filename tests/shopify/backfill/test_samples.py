"""Shopify's own sample webhooks and the same objects through GraphQL parse alike."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from services.core.clock import utc_now
from services.providers.shopify_documents import (
    LIST_ITEMS,
    LIST_LOCATIONS,
    LIST_PRODUCTS,
    READ_ORDER,
    READ_REFUND,
)
from services.sandbox.state import SandboxState
from services.shopify.backfill.stock import item_event, location_event, product_event
from services.shopify.backfill.webhook_payload import (
    PulledEvent,
    fulfillment_event,
    order_event,
    paid_money_of,
    refund_event,
    transaction_event,
)
from services.shopify.logistics.fulfillments import ingest_fulfillments, ingest_locations
from services.shopify.orders.customers import parse_customer
from services.shopify.orders.payload import parse_order
from services.shopify.orders.refund_payload import parse_refund
from services.shopify.orders.transactions import ingest_order_transactions
from services.shopify.products.handler import ingest_products
from services.shopify.products.inventory_items import ingest_inventory_items
from tests.shopify.backfill.fake_shop import DOMAIN, TOKEN, Shops, contents
from tests.shopify.sample_payloads import ingest, item

ORDERS = ("orders__create", "orders__updated", "orders__paid", "orders__cancelled", "orders__fulfilled")
FOLDER = "shopify/payloads_2026-07_exact_ids"


@pytest.fixture
def sandbox_state() -> SandboxState:
    sandbox_state = SandboxState()
    sandbox_state.control(
        {"shop": DOMAIN, "token": TOKEN, "bucket": {"maximum": 10_000, "available": 10_000}}
    )
    return sandbox_state


def query_sandbox(sandbox_state: SandboxState, document: str, **variables: Any) -> dict[str, Any]:
    reply = sandbox_state.answer_shopify(
        DOMAIN, TOKEN, {"query": document, "variables": variables}, utc_now(), "2026-07"
    )
    assert isinstance(reply.body, dict)
    assert "errors" not in reply.body, reply.body["errors"]
    data: dict[str, Any] = reply.body["data"]
    return data


OF_THE_EVENT = ("event_id", "request_id", "work_id", "version", "content_digest", "lines", "customer")
"""Fields of an order that are not compared: of the event, or compared separately."""


def sample(samples: Path, name: str) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads((samples / FOLDER / f"{name}.json").read_bytes())
    return body


def put(sandbox_state: SandboxState, kind: str, body: dict[str, Any]) -> None:
    sandbox_state.control({"shop": DOMAIN, kind: [body]})


@pytest.mark.parametrize("name", ORDERS)
def test_sample_order_parses_the_same(sandbox_state: SandboxState, samples: Path, name: str) -> None:
    body = sample(samples, name)
    put(sandbox_state, "orders", body)

    order = query_sandbox(sandbox_state, READ_ORDER, id=body["admin_graphql_api_id"])["order"]
    again = order_event(order | {"lineItems": {"nodes": order["lineItems"]["nodes"]}})

    from_webhook, from_graphql = (
        parse_order(item("order_ingest", sample_body, event_topic="orders/updated"))
        for sample_body in (body, dict(again.body))
    )
    for field in from_webhook.__struct_fields__:
        if field not in OF_THE_EVENT:
            assert getattr(from_graphql, field) == getattr(from_webhook, field), field
    assert len(from_graphql.lines) == len(from_webhook.lines) > 0
    for pulled_line, line in zip(from_graphql.lines, from_webhook.lines, strict=True):
        assert pulled_line._replace(staff_label="") == line._replace(staff_label="")
    customer = body["customer"]
    assert (
        parse_customer(dict(again.body)["customer"], from_webhook.updated_at)[1:]
        == parse_customer(customer, from_webhook.updated_at)[1:]
    )


def test_sample_refund_parses_the_same(sandbox_state: SandboxState, samples: Path) -> None:
    body = sample(samples, "refunds__create")
    for line in body["refund_line_items"]:
        line["line_item_id"] = line["line_item"]["id"]  # rounded in the sample
    # The transaction of the sample has no currency; the API always has one.
    paid = [one | {"currency": "USD"} for one in body["transactions"]]
    put(sandbox_state, "refunds", body | {"transactions": paid})

    refund = query_sandbox(sandbox_state, READ_REFUND, id=body["admin_graphql_api_id"])["refund"]
    again = refund_event(refund, f"gid://shopify/Order/{body['order_id']}")

    from_webhook, from_graphql = (
        parse_refund(item("refund_ingest", sample_body)) for sample_body in (body, dict(again.body))
    )
    for field in from_webhook._fields:
        if field not in ("event_id", "request_id", "work_id"):
            assert getattr(from_graphql, field) == getattr(from_webhook, field), field


def bag(cents: int) -> dict[str, Any]:
    """Return an amount in USD, the shop's currency, and in the buyer's at 0.70."""
    sign, cents = ("-" if cents < 0 else ""), abs(cents)
    amounts = (("shop_money", "USD", cents), ("presentment_money", "EUR", cents * 7 // 10))
    return {
        name: {"amount": f"{sign}{each // 100}.{each % 100:02}", "currency_code": currency}
        for name, currency, each in amounts
    }


def test_every_part_of_an_order_parses_the_same(sandbox_state: SandboxState, samples: Path) -> None:
    taxes = [{"title": "PST", "rate": 0.07, "price": "1.40", "channel_liable": True}]
    parts = {
        "processed_at": "2021-07-15T10:00:00-07:00", "test": False, "tax_exempt": True,
        "total_tip_received": "3.00", "original_total_duties_set": bag(2000), "duties_included": True,
        "presentment_currency": "EUR",
        "current_total_duties_set": bag(1500), "original_total_additional_fees_set": bag(450),
        "current_total_additional_fees_set": bag(0),
        "total_cash_rounding_payment_adjustment_set": bag(-20), "location_id": None,
        "total_cash_rounding_refund_adjustment_set": bag(10),
        "shipping_address": {"country_code": "CA", "province_code": None, "province": "British Columbia"},
        "shipping_lines": [{"id": 7, "price": "10.00", "is_removed": True, "tax_lines": taxes},
                           {"id": 8, "price": "20.00", "is_removed": False, "tax_lines": taxes}],
    }  # fmt: skip
    body = sample(samples, "orders__create") | parts
    body["line_items"][0] |= {"tax_lines": taxes, "current_quantity": 0}
    tip = {"id": 9, "title": "Tip", "quantity": 1, "current_quantity": 1, "price": "3.00", "product_id": None}
    body["line_items"].append(tip | {"tip_payment_gateway": "cash"})
    put(sandbox_state, "orders", body)

    order = query_sandbox(sandbox_state, READ_ORDER, id=body["admin_graphql_api_id"])["order"]

    from_webhook, from_graphql = (
        parse_order(item("order_ingest", sample_body, event_topic="orders/updated"))
        for sample_body in (body, dict(order_event(order).body))
    )
    for field in from_webhook.__struct_fields__:
        if field not in OF_THE_EVENT:
            assert getattr(from_graphql, field) == getattr(from_webhook, field), field
    assert [one._replace(staff_label="") for one in from_graphql.lines] == [
        one._replace(staff_label="") for one in from_webhook.lines
    ]
    assert (from_graphql.shipping_cents, from_graphql.province, from_graphql.tip_cents) == (
        2000,
        "CA-BC",
        300,
    )


def test_every_part_of_a_refund_parses_the_same(sandbox_state: SandboxState, samples: Path) -> None:
    body = sample(samples, "refunds__create")
    sold = body["refund_line_items"][0]
    sold |= {"line_item_id": sold["line_item"]["id"], "subtotal": 20, "total_tax": 2}
    paid = body["transactions"][0] | {"amount": "31.50", "currency": "EUR", "status": "success"}
    parts = {
        "refund_line_items": [sold | {"subtotal_set": bag(2000), "total_tax_set": bag(200)}],
        "refund_shipping_lines": [
            {"id": 3, "subtotal_amount_set": bag(500), "tax_amount_set": bag(0), "shipping_line": None}
        ],
        "order_adjustments": [
            {"id": 4, "kind": "shipping_refund", "amount_set": bag(-500), "tax_amount_set": bag(0)},
            {"id": 5, "kind": "refund_discrepancy", "amount_set": bag(-800), "tax_amount_set": bag(-100)},
        ],
        "duties": [{"duty_id": 1, "amount_set": bag(900)}], "total_duties_set": bag(900),
    }  # fmt: skip
    put(sandbox_state, "refunds", body | parts | {"transactions": [paid | {"amount_set": bag(4500)}]})

    refund = query_sandbox(sandbox_state, READ_REFUND, id=body["admin_graphql_api_id"])["refund"]

    again = dict(refund_event(refund, f"gid://shopify/Order/{body['order_id']}").body)
    sample_body = body | parts | {"transactions": [paid]}
    from_webhook, from_graphql = (parse_refund(item("refund_ingest", one)) for one in (sample_body, again))
    skipped = {"event_id": 0, "request_id": "", "work_id": 0}
    assert from_graphql._replace(**skipped) == from_webhook._replace(**skipped)
    assert [payment.cents for payment in from_graphql.payments.values()] == [4500]
    assert (from_graphql.shipping_cents, from_graphql.duties_cents, from_graphql.adjustment_cents) == (
        500,
        900,
        -800,
    )


def test_a_payment_in_the_buyers_currency_makes_the_same_row(
    sandbox_state: SandboxState, samples: Path
) -> None:
    body = sample(samples, "order_transactions__create") | {"amount": "7.00", "currency": "EUR"}
    put(sandbox_state, "order_transactions", body | {"amount_set": bag(1000)})
    document = (
        "query One($id: ID!) { nodes(ids: [$id]) { ... on OrderTransaction { amountSet { "
        "presentmentMoney { amount currencyCode } shopMoney { amount currencyCode } } } } }"
    )
    found = query_sandbox(sandbox_state, document, id=body["admin_graphql_api_id"])["nodes"][0]

    assert paid_money_of(found, "amountSet") == {"amount": "7.0", "currencyCode": "EUR"}


def pulled(sandbox_state: SandboxState, kind: str, body: dict[str, Any]) -> PulledEvent:
    """Return the same object, read through GraphQL."""
    put(sandbox_state, kind, body)
    gid = body["admin_graphql_api_id"]
    since = {"query": "updated_at:>='2000-01-01T00:00:00Z'"}
    match kind:
        case "products":
            return product_event(query_sandbox(sandbox_state, LIST_PRODUCTS, **since)["products"]["nodes"][0])
        case "inventory_items":
            return item_event(query_sandbox(sandbox_state, LIST_ITEMS, **since)["inventoryItems"]["nodes"][0])
        case "locations":
            return location_event(query_sandbox(sandbox_state, LIST_LOCATIONS)["locations"]["nodes"][0])
    order_gid = f"gid://shopify/Order/{body['order_id']}"
    put(sandbox_state, "orders", _bare_order(body["order_id"]))
    order = query_sandbox(sandbox_state, READ_ORDER, id=order_gid)["order"]
    if kind == "order_transactions":
        return transaction_event(next(one for one in order["transactions"] if one["id"] == gid), order_gid)
    (parcel,) = order["fulfillments"]
    return fulfillment_event(parcel, order_gid, is_known=False)


KINDS = {
    "products__update": ("products", ingest_products),
    "inventory_items__update": ("inventory_items", ingest_inventory_items),
    "locations__create": ("locations", ingest_locations),
    "order_transactions__create": ("order_transactions", ingest_order_transactions),
    "fulfillments__create": ("fulfillments", ingest_fulfillments),
}


@pytest.mark.parametrize("name", KINDS)
def test_webhook_and_graphql_make_the_same_row(
    shops: Shops, sandbox_state: SandboxState, samples: Path, name: str
) -> None:
    kind, effect = KINDS[name]
    body = sample(samples, name)
    body["admin_graphql_api_id"] = _gid(kind, body)
    for place, variant in enumerate(body.get("variants", ())):
        variant["inventory_item_id"] = 900 + place  # null in the sample, never in the API
    topic = name.replace("__", "/")

    again = pulled(sandbox_state, kind, body)
    ingest(shops.engine, effect, item("x", body, shop_id=shops.whole, event_topic=topic))
    ingest(shops.engine, effect, item("x", dict(again.body), shop_id=shops.holed, event_topic=again.topic))

    held = contents(shops.engine, shops.holed)
    assert held == contents(shops.engine, shops.whole)
    assert any(held.values())


def _gid(kind: str, body: dict[str, Any]) -> str:
    names = {"fulfillments": "Fulfillment"}
    return str(body.get("admin_graphql_api_id") or f"gid://shopify/{names.get(kind, kind)}/{body['id']}")


def _bare_order(number: int) -> dict[str, Any]:
    at = "2026-11-20T12:00:00Z"
    return {
        "id": number, "currency": "USD", "total_price": "0.00", "created_at": at, "updated_at": at,
        "line_items": [], "financial_status": "paid",
    }  # fmt: skip
