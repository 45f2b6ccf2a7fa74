"""Which work follows from an event. Pure: no clock, no database, no network."""

from fnmatch import fnmatchcase
from functools import lru_cache

from services.ledger.topics import TOPICS, Topic

PLAN = (
    # provider, its topic (a pattern), our topic
    ("shopify", "orders/create", "order_ingest"),
    ("shopify", "orders/updated", "order_ingest"),
    ("shopify", "orders/edited", "order_ingest"),
    ("shopify", "orders/paid", "order_ingest"),
    ("shopify", "orders/cancelled", "order_ingest"),
    ("shopify", "orders/fulfilled", "order_ingest"),
    ("shopify", "orders/partially_fulfilled", "order_ingest"),
    ("shopify", "orders/delete", "order_ingest"),
    ("shopify", "orders/risk_assessment_changed", "order_notice_ingest"),
    ("shopify", "orders/shopify_protect_eligibility_changed", "order_notice_ingest"),
    ("shopify", "refunds/create", "refund_ingest"),
    ("shopify", "order_transactions/create", "order_transaction_ingest"),
    ("shopify", "fulfillments/*", "fulfillment_ingest"),
    ("shopify", "fulfillment_orders/*", "fulfillment_order_ingest"),
    ("shopify", "fulfillment_events/*", "fulfillment_event_ingest"),
    ("shopify", "returns/*", "return_ingest"),
    ("shopify", "reverse_deliveries/*", "return_ingest"),
    ("shopify", "reverse_fulfillment_orders/*", "reverse_fulfillment_order_ingest"),
    ("shopify", "tender_transactions/create", "tender_transaction_ingest"),
    ("shopify", "disputes/*", "shopify_dispute_ingest"),
    ("shopify", "products/*", "product_ingest"),
    ("shopify", "variants/in_stock", "variant_stock_ingest"),
    ("shopify", "variants/out_of_stock", "variant_stock_ingest"),
    ("shopify", "inventory_items/*", "inventory_item_ingest"),
    ("shopify", "inventory_levels/*", "inventory_level_ingest"),
    ("shopify", "inventory_transfers/*", "inventory_transfer_ingest"),
    ("shopify", "inventory_shipments/*", "inventory_shipment_ingest"),
    ("shopify", "locations/*", "location_ingest"),
    ("shopify", "customers/data_request", "privacy_export"),
    ("shopify", "customers/redact", "privacy_redact"),
    ("shopify", "shop/redact", "privacy_redact"),
    ("shopify", "customers/*", "customer_ingest"),
    ("shopify", "shop/update", "storefront_ingest"),
    ("shopify", "app/uninstalled", "uninstall_confirm"),
    ("stripe", "v2.*", "event_fetch"),
    ("stripe", "v1.*", "event_fetch"),
    ("stripe", "charge.*", "transaction_ingest"),
    ("stripe", "refund.*", "transaction_ingest"),
    ("stripe", "payment_intent.*", "transaction_ingest"),
    ("stripe", "payout.*", "transaction_ingest"),
    ("openphone", "call*", "interaction_ingest"),
    ("openphone", "message*", "interaction_ingest"),
)
"""The first line that matches decides; an empty topic plans nothing."""


@lru_cache(maxsize=1024)
def plan_topic(provider: str, topic: str) -> Topic | None:
    """Return the work that an event of ``provider`` and ``topic`` asks for, or None.

    None is an answer, not an error: providers send topics nobody asked for, and the event is kept.
    """
    for row_provider, pattern, name in PLAN:
        if row_provider == provider and fnmatchcase(topic, pattern):
            return TOPICS[name] if name else None
    return None


def plan_review(provider: str, topic: str) -> Topic:
    """Return the topic under which an event that cannot be read waits for a person."""
    return plan_topic(provider, topic) or TOPICS["event_review"]
