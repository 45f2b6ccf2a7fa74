"""Every GraphQL document of the project is answered completely by the sandbox."""

import importlib
import pkgutil

import pytest
from graphql import TypeInfo, TypeInfoVisitor, Visitor, is_object_type, visit

from services import providers
from services.providers.shopify_documents import BULK_QUERIES
from services.sandbox.payloads.catalogue import make_shopify_body
from services.sandbox.shopify.cost import MOST_POINTS
from services.sandbox.shopify.schema import load_schema, read_document
from tests.sandbox.shops import LOCATION, NOW, History, open_shop, run_query

BULK = "gid://shopify/BulkOperation/1"

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
        locations=[make_shopify_body("locations/update", location_id=LOCATION, at=NOW)],
        inventory_items=[make_shopify_body("inventory_items/update", item=item, at=NOW, cost_cents=500)],
        inventory_levels=[
            make_shopify_body(
                "inventory_levels/update",
                inventory_item_id=item.inventory_item_id,
                location_id=LOCATION,
                available=3,
                at=NOW,
            )
        ],
        fulfillment_orders=[
            {"id": 9, "order_id": history.order["id"], "status": "open", "updated_at": NOW.isoformat()}
        ],
        subscriptions=[{"topic": "ORDERS_PAID", "uri": "https://hooks.example.com/1"}],
    )
    history.feed(shop)
    run_query(shop, DOCUMENTS["RUN_BULK_QUERY"], query=BULK_QUERIES["inventory_items"])
    shop.bulk.look(BULK)
    shop.bulk.look(BULK)
    return shop


def variables_of(name, history):
    """Return values for every variable that any document has."""
    if "BULK_OPERATION" in name:
        return {"id": BULK}
    if "DELETE_SUBSCRIPTION" in name:
        return {"id": "gid://shopify/WebhookSubscription/1"}
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
        "query": BULK_QUERIES["products"] if "BULK" in name else "updated_at:>='2026-11-01T00:00:00Z'",
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
    (operation,) = (part for part in read_document(DOCUMENTS[name]).definitions if hasattr(part, "operation"))
    known = {one.variable.name.value for one in operation.variable_definitions or ()}
    given = {key: value for key, value in variables_of(name, history).items() if key in known}
    # A query for the rest of a list starts at the start of the list.
    if "after" in known and "$after: String!" in DOCUMENTS[name]:
        given["after"] = "eyJsYXN0X2lkIjoiLTEiLCJsYXN0X3ZhbHVlIjowfQ=="

    status, body = shop.answer("t", {"query": DOCUMENTS[name], "variables": given}, NOW)

    assert (status, body.get("errors")) == (200, None)
    assert body["extensions"]["cost"]["requestedQueryCost"] <= MOST_POINTS
    assert any(leaf not in (None, False) for leaf in leaves(body["data"]))


def test_there_are_documents():
    assert {"SET_AVAILABLE", "READ_LEVELS"} <= set(DOCUMENTS)


READ_BY_TESTS = {"Shop.name"}


class FieldCollector(Visitor):
    """Collects the fields of a document as ``Type.field``."""

    def __init__(self, types):
        super().__init__()
        self.types, self.fields = types, set()

    def enter_field(self, node, *_):
        self.fields.add(f"{self.types.get_parent_type().name}.{node.name.value}")


def test_every_field_of_the_schema_is_read_by_a_document():
    types = TypeInfo(load_schema())
    collector = FieldCollector(types)
    for text in (*DOCUMENTS.values(), *BULK_QUERIES.values()):
        visit(read_document(text), TypeInfoVisitor(types, collector))

    unread = {
        f"{kind.name}.{field}"
        for kind in load_schema().type_map.values()
        if is_object_type(kind)
        and not kind.name.startswith("__")
        and not kind.name.endswith(("Connection", "Edge"))
        for field in kind.fields
    } - collector.fields

    assert unread == READ_BY_TESTS
