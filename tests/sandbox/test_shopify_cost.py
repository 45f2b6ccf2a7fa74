"""Cost of a call in points, and throttling."""

import pytest
from graphql import get_operation_ast

from services.sandbox.shopify.cost import count_points
from services.sandbox.shopify.schema import read_document
from tests.sandbox.shops import NOW, History, open_shop


def requested(text, **variables):
    tree = read_document(text)
    return count_points(tree, get_operation_ast(tree), variables)


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("{ shop { name } }", 1),
        ("{ __typename }", 1),
        ('{ order(id: "gid://shopify/Order/1") { id totalPriceSet { shopMoney { amount } } } }', 3),
        ("{ orders(first: 10) { nodes { id } pageInfo { hasNextPage } } }", 12),
        ("{ orders(first: 10) { nodes { id refunds(first: 3) { id } } } }", 42),
        ("{ orders(first: 5) { nodes { lineItems(first: 4) { nodes { id taxLines { rate } } } } } }", 57),
        ('{ nodes(ids: "x") { id ... on Order { customer { id } } ... on Product { id } } }', 2),
        ('{ nodes(ids: ["x", "y", "z"]) { id } }', 3),
        ("query A { ...F } fragment F on QueryRoot { shop { name } again: shop { id } }", 2),
        (
            "mutation { webhookSubscriptionCreate(topic: ORDERS_PAID, webhookSubscription: {})"
            " { userErrors { message } } }",
            10,
        ),
    ],
)
def test_points_by_the_published_rules(text, points):
    assert requested(text) == points


def test_sizes_may_be_variables():
    text = "query Q($n: Int, $ids: [ID!]!) { orders(first: $n) { nodes { id } } nodes(ids: $ids) { id } }"

    assert requested(text, n=20, ids=["x"] * 7) == 2 + 20 + 7


def cost_of(shop, text):
    body = shop.answer("t", {"query": text}, NOW)[1]
    return body, body.get("extensions", {}).get("cost")


def test_requested_and_unused_points_are_returned():
    history = History()
    shop = open_shop(orders=[history.changed | {"id": number} for number in (1, 2, 3)])
    text = "{ orders(first: 100) { nodes { id customer { id } lineItems(first: 3) { nodes { id } } } } }"

    _, cost = cost_of(shop, text)

    lines = len(history.order["line_items"])
    assert cost["requestedQueryCost"] == 2 + 100 * (1 + 1 + 2 + 3)
    assert cost["actualQueryCost"] == 2 + 3 * (1 + 1 + 2 + lines)
    assert cost["throttleStatus"]["currentlyAvailable"] == 2000 - cost["actualQueryCost"]


def test_empty_result_costs_only_the_query():
    _, cost = cost_of(open_shop(), '{ order(id: "gid://shopify/Order/1") { id customer { id } } }')

    assert (cost["requestedQueryCost"], cost["actualQueryCost"]) == (2, 1)


def test_query_of_more_than_1000_points_is_refused_for_any_bucket():
    shop = open_shop(bucket={"maximum": 20000})

    body, cost = cost_of(shop, "{ orders(first: 250) { nodes { id refunds(first: 3) { id } } } }")

    assert cost is None
    assert body["errors"][0]["extensions"] | {"documentation": ""} == {
        "code": "MAX_COST_EXCEEDED",
        "cost": 1002,
        "maxCost": 1000,
        "documentation": "",
    }
    assert "data" not in body


def test_query_is_throttled_with_status_200_until_the_points_are_there():
    seconds = [0.0]
    shop = open_shop(lambda: seconds[0], bucket={"maximum": 100, "restore_per_second": 10, "available": 2})
    text = "{ orders(first: 10) { nodes { id } } }"

    throttled, cost = cost_of(shop, text)
    seconds[0] = 1.0
    answered, _ = cost_of(shop, text)

    assert (throttled["errors"][0]["extensions"]["code"], cost["actualQueryCost"]) == ("THROTTLED", None)
    assert cost["requestedQueryCost"] == 12
    assert answered["data"] == {"orders": {"nodes": []}}
    assert (shop.counts["throttled"], shop.counts["answered"]) == (1, 1)
