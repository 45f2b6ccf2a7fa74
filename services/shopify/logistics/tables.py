"""Tables of fulfillment, transfers, returns, notices, disputes and tender transactions.

``field_versions`` has the newest value of each field and its time: ``{"status": [time, value]}``. The other
columns are computed from it, for queries; see ``partial_updates``.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import SchemaItem

from services.core.columns import AT, EMPTY, FALSE, ZERO, columns, keys, optional
from services.core.db import metadata


def _entity(name: str, key: str, *items: SchemaItem) -> Table:
    """Return the table of one kind of entity by shop and Shopify's id ``key``."""
    event_id = Column("event_id", BigInteger)
    return Table(name, metadata, *keys("shop_id", Integer), *keys(key, BigInteger), *items, event_id)


def _partial_entity(name: str, key: str, *items: SchemaItem) -> Table:
    """Return the table of one kind of entity whose events contain only the fields that changed."""
    return _entity(name, key, *items, *columns("updated_at", AT), *columns("field_versions", JSONB))


fulfillments = _entity(
    "fulfillments",
    "fulfillment_id",
    *columns("order_gid status", Text),
    *columns("shipment_status", Text, EMPTY),
    *optional("location_id", BigInteger),
    *columns("quantity", Integer, ZERO),
    *columns("fulfilled_at updated_at", AT),
    Index("ix_fulfillments_order", "shop_id", "order_gid"),
)

fulfillment_events = _entity(
    "fulfillment_events",
    "fulfillment_event_id",
    *columns("fulfillment_id", BigInteger),
    *columns("order_gid status", Text, EMPTY),
    *columns("happened_at", AT),
    *optional("delivery_expected_at", AT),
    *columns("updated_at", AT),
    *optional("deleted_at", AT),
    Index("ix_fulfillment_events_fulfillment", "shop_id", "fulfillment_id", "happened_at"),
    Index("ix_fulfillment_events_order", "shop_id", "order_gid"),
)

# ``order_gid`` is empty until a backfill reads it: Shopify's webhooks do not contain the order.
fulfillment_orders = _partial_entity(
    "fulfillment_orders",
    "fulfillment_order_id",
    *columns("order_gid status request_status", Text, EMPTY),
    *optional("location_id", BigInteger),
    *columns("is_on_hold", Boolean, FALSE),
    *columns("hold_reason", Text, EMPTY),
    *optional("fulfill_at prepared_at", AT),
    Index("ix_fulfillment_orders_on_hold", "shop_id", postgresql_where=text("is_on_hold")),
    Index("ix_fulfillment_orders_order", "shop_id", "order_gid", postgresql_where=text("order_gid <> ''")),
)

inventory_transfers = _partial_entity(
    "inventory_transfers",
    "inventory_transfer_id",
    *columns("status", Text, EMPTY),
    *optional("origin_id destination_id quantity", BigInteger),
)

inventory_shipments = _partial_entity(
    "inventory_shipments",
    "inventory_shipment_id",
    *columns("status", Text, EMPTY),
    *optional("arrives_at", AT),
    *optional("quantity", BigInteger),
    *columns("accepted_quantity rejected_quantity", BigInteger, ZERO),
    *optional("deleted_at", AT),
)

order_returns = _partial_entity(
    "order_returns",
    "return_id",
    *columns("order_gid name status decline_reason", Text, EMPTY),
    *optional("line_count", Integer),
    *optional("quantity", BigInteger),
    *optional("shipping_attached_at", AT),
    Index("ix_order_returns_order", "shop_id", "order_gid"),
)

reverse_fulfillment_orders = _partial_entity(
    "reverse_fulfillment_orders",
    "reverse_fulfillment_order_id",
    *columns("restocked_quantity not_restocked_quantity", BigInteger, ZERO),
    *columns("missing_quantity disposed_quantity", BigInteger, ZERO),
)

variant_stock = _entity(
    "variant_stock",
    "variant_id",
    *optional("product_id", BigInteger),
    *columns("is_in_stock", Boolean),
    *columns("updated_at", AT),
)

order_notices = Table(
    "order_notices",
    metadata,
    *keys("shop_id", Integer),
    *keys("order_gid", Text),
    *columns("risk_level protect_status protect_eligibility doubts", Text, EMPTY),
    *columns("updated_at", AT),
    *columns("field_versions", JSONB),
    *optional("event_id", BigInteger),
)

# Disputes of Shopify Payments. Those of the shop's own Stripe account are ``transactions``.
shopify_disputes = _entity(
    "shopify_disputes",
    "dispute_id",
    *columns("order_gid kind", Text, EMPTY),
    *columns("status", Text),
    *columns("amount_cents", BigInteger),
    *columns("currency", Text),
    *columns("reason network_reason_code", Text, EMPTY),
    *optional("initiated_at evidence_due_by evidence_sent_on finalized_on", AT),
    *columns("updated_at", AT),
    Index("ix_shopify_disputes_order", "shop_id", "order_gid"),
)

tender_transactions = _entity(
    "tender_transactions",
    "tender_transaction_id",
    *columns("order_gid", Text, EMPTY),
    *columns("amount_cents", BigInteger),
    *columns("currency", Text),
    *columns("payment_method remote_reference", Text, EMPTY),
    *columns("is_test", Boolean, FALSE),
    *columns("processed_at", AT),
    Index("ix_tender_transactions_order", "shop_id", "order_gid"),
)
