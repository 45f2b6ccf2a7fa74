"""The wanted webhook topics, and the difference to the subscriptions that Shopify lists. Pure.

Shopify deletes a subscription after eight failed deliveries within four hours, without notice.
Source: shopify.dev, "HTTPS webhooks", retries; the enum ``WebhookSubscriptionTopic`` of the 2026-07 schema.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

_WANTED = {
    "app": "uninstalled",
    "customers": "create delete disable enable merge update",
    "disputes": "create update",
    "fulfillment_events": "create",
    "fulfillment_orders": """
        cancellation_request_accepted cancellation_request_rejected cancellation_request_submitted cancelled
        fulfillment_request_accepted fulfillment_request_rejected fulfillment_request_submitted
        fulfillment_service_failed_to_complete hold_released line_items_prepared_for_local_delivery
        line_items_prepared_for_pickup manually_reported_progress_stopped merged moved order_routing_complete
        placed_on_hold progress_reported rescheduled scheduled_fulfillment_order_ready split""",
    "fulfillments": "create update",
    "inventory_items": "create delete update",
    "inventory_levels": "connect disconnect update",
    "inventory_shipments": """
        add_items create delete mark_in_transit receive_items remove_items update_item_quantities
        update_tracking""",
    "inventory_transfers": "add_items cancel complete ready_to_ship remove_items update_item_quantities",
    "locations": "activate create deactivate delete update",
    "order_transactions": "create",
    "orders": """
        cancelled create delete edited fulfilled paid partially_fulfilled risk_assessment_changed
        shopify_protect_eligibility_changed updated""",
    "products": "create delete update",
    "refunds": "create",
    "returns": "approve cancel close decline process reopen request update",
    "reverse_deliveries": "attach_deliverable",
    "reverse_fulfillment_orders": "dispose",
    "shop": "update",
    "tender_transactions": "create",
    "variants": "in_stock out_of_stock",
}

WANTED = tuple(f"{resource}/{event}" for resource, events in _WANTED.items() for event in events.split())
"""Every Shopify topic that has work and can be subscribed to. The three mandatory privacy topics cannot: they
are set in the app's own configuration. ``inventory_transfers/updated`` is left out: version 2026-04 does not
have it, and the topics of shipments report the same change. Shopify refuses a topic whose access scope the
shop did not grant; the job's result names it."""

MAX_FAILURE_TIME = timedelta(hours=5)
"""How long a subscription can have failed when a check finds it: four hours of retries, and a margin."""


class Subscription(NamedTuple):
    """A webhook subscription in Shopify's list."""

    topic: str
    gid: str
    uri: str
    is_json: bool


class StoredSubscription(NamedTuple):
    """A subscription as the last check found it.

    ``lost_at``: when a check no longer found it; ``imported_at``: when its missed events were imported.
    """

    topic: str
    gid: str
    uri: str
    seen_at: datetime
    lost_at: datetime | None
    imported_at: datetime | None


class SubscriptionDiff(NamedTuple):
    """The wanted topics compared with the subscriptions that Shopify lists."""

    good: Mapping[str, Subscription]
    """At the wanted address and in JSON, by topic."""
    wrong: Sequence[Subscription]
    """Of a wanted topic, but with another address, or in XML."""
    missing: Sequence[str]
    """Wanted topics without a good subscription."""
    lost: Sequence[StoredSubscription]
    """Found by an earlier check, and missing now."""
    returned: Sequence[StoredSubscription]
    """Lost at an earlier check that did not finish, and good again."""

    @property
    def to_import(self) -> Sequence[StoredSubscription]:
        """The subscriptions whose missed events are not imported yet."""
        return [stored for stored in (*self.lost, *self.returned) if stored.imported_at is None]


def topic_to_enum(topic: str) -> str:
    """Return the GraphQL name of a topic: ``orders/create`` is ``ORDERS_CREATE``."""
    return topic.upper().replace("/", "_")


ENUM_TOPICS = {topic_to_enum(topic): topic for topic in WANTED}


def compare_subscriptions(
    listed: Sequence[Subscription], stored: Sequence[StoredSubscription], address: str
) -> SubscriptionDiff:
    """Return how ``listed`` differs from the wanted topics at ``address``.

    An ``address`` without a host (``PUBLIC_URL`` is empty) is a path: then every host matches.
    """
    wanted = [entry for entry in listed if entry.topic in WANTED]
    good = {entry.topic: entry for entry in wanted if entry.is_json and _has_address(entry.uri, address)}
    return SubscriptionDiff(
        good=good,
        wrong=[entry for entry in wanted if entry.topic not in good],
        missing=[topic for topic in WANTED if topic not in good],
        lost=[entry for entry in stored if entry.topic not in good and entry.topic in WANTED],
        returned=[entry for entry in stored if entry.topic in good and entry.lost_at is not None],
    )


def find_outage_start(
    lost: Sequence[StoredSubscription], last_received: Mapping[str, datetime]
) -> datetime | None:
    """Return the time since which webhooks of ``lost`` may be missing; None if nothing is lost.

    The outage of a topic starts at its last webhook, but at most ``MAX_FAILURE_TIME`` before the last check
    that found the subscription, and not after that check.
    """
    starts = []
    for entry in lost:
        earliest = entry.seen_at - MAX_FAILURE_TIME
        received_at = last_received.get(entry.topic, earliest)
        starts.append(min(max(received_at, earliest), entry.seen_at))
    return min(starts, default=None)


def _has_address(uri: str, address: str) -> bool:
    if "://" in address:
        return uri == address
    return uri.partition("://")[2].partition("/")[2] == address.lstrip("/")
