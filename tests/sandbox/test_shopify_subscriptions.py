"""Webhook subscriptions of the sandbox shop: created, found, changed, lost."""

import pytest

from tests.sandbox.shops import fault, open_shop, run_query

URI = "https://hooks.example.com/webhooks/shopify/ada"
CREATE = """
mutation C($topic: WebhookSubscriptionTopic!, $with: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $with) {
    webhookSubscription { id topic uri format createdAt } userErrors { field message } } }"""
LIST = """query L($after: String) {
  webhookSubscriptions(first: 2, after: $after) {
    nodes { id topic uri format createdAt updatedAt } pageInfo { hasNextPage endCursor } } }"""


@pytest.fixture
def shop():
    return open_shop()


def create(shop, topic="ORDERS_CREATE", **options):
    return run_query(shop, CREATE, topic=topic, **{"with": {"uri": URI} | options})[
        "webhookSubscriptionCreate"
    ]


def topics(shop, **options):
    return [node["topic"] for node in run_query(shop, LIST, **options)["webhookSubscriptions"]["nodes"]]


def test_subscription_is_made_and_listed(shop):
    made = create(shop, format="JSON")

    assert made["userErrors"] == []
    assert made["webhookSubscription"] == {
        "id": "gid://shopify/WebhookSubscription/1",
        "topic": "ORDERS_CREATE",
        "uri": URI,
        "format": "JSON",
        "createdAt": "2026-11-21T12:00:00Z",
    }
    assert topics(shop) == ["ORDERS_CREATE"]


def test_address_is_taken_once_a_topic(shop):
    create(shop)

    refused = create(shop)
    assert refused == {
        "webhookSubscription": None,
        "userErrors": [
            {
                "field": ["webhookSubscription", "uri"],
                "message": "Address for this topic has already been taken",
            }
        ],
    }
    assert create(shop, "ORDERS_PAID")["userErrors"] == []
    assert create(shop, uri=URI + "/2")["userErrors"] == []


@pytest.mark.parametrize("uri", ["http://hooks.example.com/", "", "ftp://x"])
def test_address_without_https_is_refused(shop, uri):
    assert create(shop, uri=uri)["userErrors"]
    assert topics(shop) == []


def test_topic_that_the_api_lacks_is_an_error(shop):
    options = {"topic": "CUSTOMERS_REDACT", "with": {"uri": URI}}

    assert fault(shop, CREATE, **options)["extensions"]["code"] == "INVALID_VARIABLE"


def test_list_is_paged(shop):
    for topic in ("ORDERS_CREATE", "REFUNDS_CREATE", "PRODUCTS_UPDATE"):
        create(shop, topic)

    page = run_query(shop, LIST)["webhookSubscriptions"]
    rest = run_query(shop, LIST, after=page["pageInfo"]["endCursor"])["webhookSubscriptions"]

    assert [node["topic"] for node in page["nodes"] + rest["nodes"]] == [
        "ORDERS_CREATE", "REFUNDS_CREATE", "PRODUCTS_UPDATE",
    ]  # fmt: skip


def test_shopify_deletes_what_failed_too_often(shop):
    shop.control(
        {"subscriptions": [{"topic": "ORDERS_CREATE", "uri": URI}, {"topic": "ORDERS_PAID", "uri": URI}]}
    )

    shop.control({"delete_subscriptions": ["ORDERS_CREATE"]})

    assert topics(shop) == ["ORDERS_PAID"]
    assert create(shop)["userErrors"] == []
