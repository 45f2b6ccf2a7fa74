"""Which webhooks Shopify should send us, and what has become of those it does. Pure.

Shopify deletes a subscription after eight failed deliveries within four hours, and tells nobody.
Source: shopify.dev, "HTTPS webhooks", retries; the enum ``WebhookSubscriptionTopic`` of the 2026-07 schema.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

WANTED = (
    "app/uninstalled",
    "customers/create",
    "customers/delete",
    "customers/disable",
    "customers/enable",
    "customers/merge",
    "customers/update",
    "disputes/create",
    "disputes/update",
    "fulfillment_events/create",
    "fulfillment_orders/cancellation_request_accepted",
    "fulfillment_orders/cancellation_request_rejected",
    "fulfillment_orders/cancellation_request_submitted",
    "fulfillment_orders/cancelled",
    "fulfillment_orders/fulfillment_request_accepted",
    "fulfillment_orders/fulfillment_request_rejected",
    "fulfillment_orders/fulfillment_request_submitted",
    "fulfillment_orders/fulfillment_service_failed_to_complete",
    "fulfillment_orders/hold_released",
    "fulfillment_orders/line_items_prepared_for_local_delivery",
    "fulfillment_orders/line_items_prepared_for_pickup",
    "fulfillment_orders/manually_reported_progress_stopped",
    "fulfillment_orders/merged",
    "fulfillment_orders/moved",
    "fulfillment_orders/order_routing_complete",
    "fulfillment_orders/placed_on_hold",
    "fulfillment_orders/progress_reported",
    "fulfillment_orders/rescheduled",
    "fulfillment_orders/scheduled_fulfillment_order_ready",
    "fulfillment_orders/split",
    "fulfillments/create",
    "fulfillments/update",
    "inventory_items/create",
    "inventory_items/delete",
    "inventory_items/update",
    "inventory_levels/connect",
    "inventory_levels/disconnect",
    "inventory_levels/update",
    "inventory_shipments/add_items",
    "inventory_shipments/create",
    "inventory_shipments/delete",
    "inventory_shipments/mark_in_transit",
    "inventory_shipments/receive_items",
    "inventory_shipments/remove_items",
    "inventory_shipments/update_item_quantities",
    "inventory_shipments/update_tracking",
    "inventory_transfers/add_items",
    "inventory_transfers/cancel",
    "inventory_transfers/complete",
    "inventory_transfers/ready_to_ship",
    "inventory_transfers/remove_items",
    "inventory_transfers/update_item_quantities",
    "locations/activate",
    "locations/create",
    "locations/deactivate",
    "locations/delete",
    "locations/update",
    "order_transactions/create",
    "orders/cancelled",
    "orders/create",
    "orders/delete",
    "orders/edited",
    "orders/fulfilled",
    "orders/paid",
    "orders/partially_fulfilled",
    "orders/risk_assessment_changed",
    "orders/shopify_protect_eligibility_changed",
    "orders/updated",
    "products/create",
    "products/delete",
    "products/update",
    "refunds/create",
    "returns/approve",
    "returns/cancel",
    "returns/close",
    "returns/decline",
    "returns/process",
    "returns/reopen",
    "returns/request",
    "returns/update",
    "reverse_deliveries/attach_deliverable",
    "reverse_fulfillment_orders/dispose",
    "shop/update",
    "tender_transactions/create",
    "variants/in_stock",
    "variants/out_of_stock",
)
"""Every topic of Shopify's that the plan has work for and that can be subscribed to. The three mandatory
privacy topics cannot: they are set in the app's own configuration. ``inventory_transfers/updated`` is left
out: version 2026-04 has it not, and it says only that one of the transfer's shipments changed, as the
shipment's own topics do. A topic whose access scope the shop did not grant is refused, and named."""

BEFORE_DELETION = timedelta(hours=5)
"""A subscription that was there at a look had failed for at most the four hours of its retries, and some."""


class Subscription(NamedTuple):
    """A webhook subscription as Shopify lists it."""

    topic: str
    gid: str
    uri: str
    is_json: bool


class Kept(NamedTuple):
    """A subscription as we saw it last. ``imported_at``: what its outage kept from us has been read."""

    topic: str
    gid: str
    uri: str
    seen_at: datetime
    lost_at: datetime | None
    imported_at: datetime | None


class Watch(NamedTuple):
    """What a look came to."""

    good: Mapping[str, Subscription]
    """At our address and in JSON, by topic."""
    wrong: Sequence[Subscription]
    """Of a wanted topic, but at another address, or in XML."""
    missing: Sequence[str]
    """Wanted topics with no good subscription."""
    lost: Sequence[Kept]
    """Seen before, and gone."""
    back: Sequence[Kept]
    """Gone at an earlier look that did not get to its end, and there again."""

    @property
    def to_import(self) -> Sequence[Kept]:
        """Those whose outage has not been read from Shopify's lists yet."""
        return [kept for kept in (*self.lost, *self.back) if kept.imported_at is None]


def topic_to_enum(topic: str) -> str:
    """Return a topic as GraphQL names it: ``orders/create`` is ``ORDERS_CREATE``."""
    return topic.upper().replace("/", "_")


ENUM_TOPICS = {topic_to_enum(topic): topic for topic in WANTED}


def plan_watch(listed: Sequence[Subscription], kept: Sequence[Kept], ours: str) -> Watch:
    """Return what ``listed`` means for the wanted topics.

    ``ours`` is our address, or only its path where our own name is not known (``PUBLIC_URL`` is empty):
    then any host will do.
    """
    wanted = [entry for entry in listed if entry.topic in WANTED]
    good = {entry.topic: entry for entry in wanted if entry.is_json and _is_ours(entry.uri, ours)}
    wrong = [entry for entry in wanted if entry.topic not in good]
    gone = [entry for entry in kept if entry.topic not in good and entry.topic in WANTED]
    back = [entry for entry in kept if entry.topic in good and entry.lost_at is not None]
    return Watch(good, wrong, [topic for topic in WANTED if topic not in good], gone, back)


def plan_outage(lost: Sequence[Kept], arrived: Mapping[str, datetime]) -> datetime | None:
    """Return since when webhooks of ``lost`` may be missing; None where nothing was lost.

    ``arrived`` is when the last webhook of each topic came. Whatever came before it came, so the outage
    of a topic began then, but not more than ``BEFORE_DELETION`` before the last look that found it well.
    """
    begins = [
        min(max(arrived.get(kept.topic, kept.seen_at - BEFORE_DELETION), kept.seen_at - BEFORE_DELETION),
            kept.seen_at)
        for kept in lost
    ]  # fmt: skip
    return min(begins, default=None)


def _is_ours(uri: str, ours: str) -> bool:
    return uri == ours if "://" in ours else uri.partition("://")[2].partition("/")[2] == ours.lstrip("/")
