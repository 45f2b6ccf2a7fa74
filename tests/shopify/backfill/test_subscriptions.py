"""Differences between Shopify's subscriptions and the wanted ones."""

from datetime import UTC, datetime, timedelta

import pytest

from services.ledger.topics import plan_topic
from services.providers.shopify import SHOPIFY
from services.shopify.subscriptions.plan import (
    WANTED,
    StoredSubscription,
    Subscription,
    compare_subscriptions,
    find_outage_start,
    topic_to_enum,
)
from tests.shopify.backfill.test_documents import needs_schemas, schema

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
OURS = "https://hooks.example.com/webhooks/shopify/harbour"
UNSUBSCRIBABLE = {"customers/data_request", "customers/redact", "shop/redact"}


def good(topic: str, uri: str = OURS) -> Subscription:
    return Subscription(topic, f"gid://shopify/WebhookSubscription/{topic}", uri, is_json=True)


def stored(topic: str, *, lost: bool = False, imported: bool = False, hours: float = 1) -> StoredSubscription:
    seen_at = NOW - timedelta(hours=hours)
    return StoredSubscription(topic, "gid", OURS, seen_at, NOW if lost else None, NOW if imported else None)


def test_every_wanted_topic_has_work_and_every_plain_topic_of_the_plan_is_wanted() -> None:
    planned = {pattern for pattern, _ in SHOPIFY.topics if "*" not in pattern}

    assert all(plan_topic("shopify", topic) is not None for topic in WANTED)
    assert planned - UNSUBSCRIBABLE <= set(WANTED)
    assert not UNSUBSCRIBABLE & set(WANTED)


@needs_schemas
@pytest.mark.parametrize("version", ["2026-04", "2026-07", "2026-10"])
def test_every_wanted_topic_can_be_subscribed_to_and_no_privacy_topic_can(version: str) -> None:
    known = set(schema(version).type_map["WebhookSubscriptionTopic"].values)

    assert {topic_to_enum(topic) for topic in WANTED} <= known
    assert not {topic_to_enum(topic) for topic in UNSUBSCRIBABLE} & known


def test_subscription_at_our_address_is_good_and_the_rest_is_missing() -> None:
    diff = compare_subscriptions([good(topic) for topic in WANTED[1:]], [], OURS)

    assert diff.missing == [WANTED[0]]
    assert set(diff.good) == set(WANTED[1:])
    assert not diff.wrong
    assert not diff.to_import


def test_a_topic_that_was_never_seen_is_missing_and_not_lost() -> None:
    assert compare_subscriptions([], [], OURS).lost == []


def test_a_topic_that_was_seen_and_is_gone_is_lost() -> None:
    diff = compare_subscriptions([], [stored("orders/create")], OURS)

    assert [entry.topic for entry in diff.lost] == ["orders/create"]
    assert [entry.topic for entry in diff.to_import] == ["orders/create"]


def test_outage_that_was_imported_is_not_imported_again() -> None:
    diff = compare_subscriptions([], [stored("orders/create", lost=True, imported=True)], OURS)

    assert [entry.topic for entry in diff.lost] == ["orders/create"]
    assert not diff.to_import


def test_outage_of_a_returned_topic_is_still_imported() -> None:
    diff = compare_subscriptions([good("orders/create")], [stored("orders/create", lost=True)], OURS)

    assert not diff.lost
    assert [entry.topic for entry in diff.to_import] == ["orders/create"]


@pytest.mark.parametrize(
    ("uri", "is_json"), [("https://elsewhere.example/hook", True), (OURS, False), (OURS + "2", True)]
)
def test_a_wanted_topic_elsewhere_or_in_xml_is_wrong_and_does_not_count(uri: str, is_json: bool) -> None:
    diff = compare_subscriptions([Subscription("orders/create", "gid", uri, is_json)], [], OURS)

    assert [entry.topic for entry in diff.wrong] == ["orders/create"]
    assert "orders/create" in diff.missing


def test_unwanted_topic_elsewhere_is_ignored() -> None:
    diff = compare_subscriptions(
        [Subscription("CARTS_CREATE", "gid", "https://elsewhere.example", True)], [], OURS
    )

    assert not diff.wrong


def test_without_a_public_url_the_path_is_enough() -> None:
    diff = compare_subscriptions([good("orders/create")], [], "/webhooks/shopify/harbour")

    assert set(diff.good) == {"orders/create"}


def test_an_outage_begins_with_the_last_webhook_that_came() -> None:
    came = NOW - timedelta(hours=2, minutes=30)

    assert find_outage_start([stored("orders/create")], {"orders/create": came}) == came


def test_an_outage_begins_five_hours_before_the_last_good_check_where_webhooks_are_rare() -> None:
    since = NOW - timedelta(hours=6)

    assert find_outage_start([stored("orders/create")], {"orders/create": NOW - timedelta(days=3)}) == since
    assert find_outage_start([stored("orders/create")], {}) == since


def test_an_outage_is_that_of_the_topic_that_was_lost_first() -> None:
    lost = [stored("orders/create"), stored("refunds/create", hours=4)]

    assert find_outage_start(lost, {}) == NOW - timedelta(hours=9)


def test_where_nothing_is_lost_there_is_no_outage() -> None:
    assert find_outage_start([], {}) is None
