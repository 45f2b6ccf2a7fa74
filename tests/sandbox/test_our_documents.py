"""Every GraphQL document that the project sends runs against the sandbox, and gets what it asks for."""

import importlib
import pkgutil

import pytest

from services import providers
from services.sandbox.payloads.catalogue import make_inventory_item, make_inventory_level, make_location
from services.sandbox.shopify.cost import MOST_POINTS
from tests.sandbox.shops import LOCATION, NOW, History, open_shop

DOCUMENTS = {
    name: text
    for module in pkgutil.iter_modules(providers.__path__)
    if module.name.startswith("shopify_") and module.name.endswith("documents")
    for name, text in vars(importlib.import_module(f"services.providers.{module.name}")).items()
    if name[0].isupper() and name.isupper() and isinstance(text, str)
}


@pytest.fixture
def history():
    return History()


@pytest.fixture
def shop(history):
    item = history.items[0]
    shop = open_shop(
        locations=[make_location(LOCATION, updated_at=NOW)],
        inventory_items=[make_inventory_item(item, updated_at=NOW, cost_cents=500)],
        inventory_levels=[
            make_inventory_level(item.inventory_item_id, LOCATION, available=3, updated_at=NOW)
        ],
        fulfillment_orders=[
            {"id": 9, "order_id": history.order["id"], "status": "open", "updated_at": NOW.isoformat()}
        ],
        subscriptions=[{"topic": "ORDERS_PAID", "uri": "https://hooks.example.com/1"}],
    )
    history.feed(shop)
    return shop


def variables_of(name, history):
    """Return values for every variable that any document has."""
    subject = {"REFUND": history.refund, "PRODUCT": history.product}
    body = next((body for word, body in subject.items() if word in name), history.order)
    item = f"gid://shopify/InventoryItem/{history.items[0].inventory_item_id}"
    location = f"gid://shopify/Location/{LOCATION}"
    wanted = {"inventoryItemId": item, "locationId": location, "quantity": 4, "changeFromQuantity": 3}
    return {
        "id": body["admin_graphql_api_id"],
        "ids": [item],
        "items": [item],
        "location": location,
        "query": "updated_at:>='2026-11-01T00:00:00Z'",
        "input": {"name": "available", "reason": "correction", "quantities": [wanted]},
        "key": "1",
        "topic": "ORDERS_CREATE",
        "wanted": {"uri": "https://hooks.example.com/2"},
    }


def leaves(value):
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    return [leaf for inner in value for leaf in leaves(inner)] if isinstance(value, list) else [value]


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_document_is_answered_and_costs_what_one_query_may(name, shop, history):
    from services.sandbox.shopify.documents import read_document

    known = {one.variable.name.value
             for operation in read_document(DOCUMENTS[name]).operations.values()
             for one in operation.variable_definitions or ()}  # fmt: skip
    given = {key: value for key, value in variables_of(name, history).items() if key in known}
    # What asks for the rest of a list begins where any list begins.
    if "after" in known and "$after: String!" in DOCUMENTS[name]:
        given["after"] = "eyJsYXN0X2lkIjoiLTEiLCJsYXN0X3ZhbHVlIjowfQ=="

    status, body = shop.answer("t", {"query": DOCUMENTS[name], "variables": given}, NOW)

    assert (status, body.get("errors")) == (200, None)
    assert body["extensions"]["cost"]["requestedQueryCost"] <= MOST_POINTS
    assert any(leaf not in (None, False) for leaf in leaves(body["data"]))


def test_push_is_answered_without_walking_its_tree():
    from services.sandbox.shopify.documents import read_document

    push = read_document(DOCUMENTS["SET_AVAILABLE"]).push

    assert push is not None
    assert push.read({"input": {"name": "n", "reason": "r", "quantities": []}, "key": "1"})
    assert read_document(DOCUMENTS["READ_LEVELS"]).push is None


def test_there_are_documents():
    assert {"SET_AVAILABLE", "READ_LEVELS"} <= set(DOCUMENTS)
