"""Tables of logistics, notices, disputes and tender transactions.

``field_versions`` has the newest value of each field and its time: ``{"status": [time, value]}``. The other
columns are derived from it, for queries; see ``partial_updates``.
"""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import metadata

_at = DateTime(timezone=True)
_EMPTY = text("''")
_ZERO = text("0")

# Shopify's payloads of a fulfillment order do not contain its order: ``order_gid`` is empty unless one did.
fulfillment_orders = Table(
    "fulfillment_orders",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("fulfillment_order_id", BigInteger, primary_key=True),
    Column("order_gid", Text, nullable=False, server_default=_EMPTY),
    Column("status", Text, nullable=False, server_default=_EMPTY),
    Column("request_status", Text, nullable=False, server_default=_EMPTY),
    Column("location_id", BigInteger),
    Column("is_on_hold", Boolean, nullable=False, server_default=text("false")),
    Column("hold_reason", Text, nullable=False, server_default=_EMPTY),
    Column("fulfill_at", _at),
    Column("prepared_at", _at),
    Column("updated_at", _at, nullable=False),
    Column("field_versions", JSONB, nullable=False),
    Column("event_id", BigInteger),
    Index("ix_fulfillment_orders_on_hold", "shop_id", postgresql_where=text("is_on_hold")),
    Index("ix_fulfillment_orders_order", "shop_id", "order_gid", postgresql_where=text("order_gid <> ''")),
)

fulfillment_events = Table(
    "fulfillment_events",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("fulfillment_event_id", BigInteger, primary_key=True),
    Column("fulfillment_id", BigInteger, nullable=False),
    Column("order_gid", Text, nullable=False, server_default=_EMPTY),
    Column("status", Text, nullable=False, server_default=_EMPTY),
    Column("happened_at", _at, nullable=False),
    Column("delivery_expected_at", _at),
    Column("updated_at", _at, nullable=False),
    Column("deleted_at", _at),
    Column("event_id", BigInteger),
    Index("ix_fulfillment_events_fulfillment", "shop_id", "fulfillment_id", "happened_at"),
    Index("ix_fulfillment_events_order", "shop_id", "order_gid"),
)

inventory_transfers = Table(
    "inventory_transfers",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("inventory_transfer_id", BigInteger, primary_key=True),
    Column("status", Text, nullable=False, server_default=_EMPTY),
    Column("origin_id", BigInteger),
    Column("destination_id", BigInteger),
    Column("quantity", BigInteger),
    Column("updated_at", _at, nullable=False),
    Column("field_versions", JSONB, nullable=False),
    Column("event_id", BigInteger),
)

inventory_shipments = Table(
    "inventory_shipments",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("inventory_shipment_id", BigInteger, primary_key=True),
    Column("status", Text, nullable=False, server_default=_EMPTY),
    Column("arrives_at", _at),
    Column("quantity", BigInteger),
    Column("accepted_quantity", BigInteger, nullable=False, server_default=_ZERO),
    Column("rejected_quantity", BigInteger, nullable=False, server_default=_ZERO),
    Column("updated_at", _at, nullable=False),
    Column("deleted_at", _at),
    Column("field_versions", JSONB, nullable=False),
    Column("event_id", BigInteger),
)

variant_stock = Table(
    "variant_stock",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("variant_id", BigInteger, primary_key=True),
    Column("product_id", BigInteger),
    Column("is_in_stock", Boolean, nullable=False),
    Column("updated_at", _at, nullable=False),
    Column("event_id", BigInteger),
)

order_notices = Table(
    "order_notices",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("order_gid", Text, primary_key=True),
    Column("risk_level", Text, nullable=False, server_default=_EMPTY),
    Column("protect_status", Text, nullable=False, server_default=_EMPTY),
    Column("protect_eligibility", Text, nullable=False, server_default=_EMPTY),
    Column("updated_at", _at, nullable=False),
    Column("field_versions", JSONB, nullable=False),
    Column("event_id", BigInteger),
    Column("doubts", Text, nullable=False, server_default=_EMPTY),
)

order_returns = Table(
    "order_returns",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("return_id", BigInteger, primary_key=True),
    Column("order_gid", Text, nullable=False, server_default=_EMPTY),
    Column("name", Text, nullable=False, server_default=_EMPTY),
    Column("status", Text, nullable=False, server_default=_EMPTY),
    Column("decline_reason", Text, nullable=False, server_default=_EMPTY),
    Column("line_count", Integer),
    Column("quantity", BigInteger),
    Column("shipping_attached_at", _at),
    Column("updated_at", _at, nullable=False),
    Column("field_versions", JSONB, nullable=False),
    Column("event_id", BigInteger),
    Index("ix_order_returns_order", "shop_id", "order_gid"),
)

reverse_fulfillment_orders = Table(
    "reverse_fulfillment_orders",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("reverse_fulfillment_order_id", BigInteger, primary_key=True),
    Column("restocked_quantity", BigInteger, nullable=False, server_default=_ZERO),
    Column("not_restocked_quantity", BigInteger, nullable=False, server_default=_ZERO),
    Column("missing_quantity", BigInteger, nullable=False, server_default=_ZERO),
    Column("disposed_quantity", BigInteger, nullable=False, server_default=_ZERO),
    Column("updated_at", _at, nullable=False),
    Column("field_versions", JSONB, nullable=False),
    Column("event_id", BigInteger),
)

# Disputes of Shopify Payments. Those of the shop's own Stripe account are ``transactions``.
shopify_disputes = Table(
    "shopify_disputes",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("dispute_id", BigInteger, primary_key=True),
    Column("order_gid", Text, nullable=False, server_default=_EMPTY),
    Column("kind", Text, nullable=False, server_default=_EMPTY),
    Column("status", Text, nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=_EMPTY),
    Column("network_reason_code", Text, nullable=False, server_default=_EMPTY),
    Column("initiated_at", _at),
    Column("evidence_due_by", _at),
    Column("evidence_sent_on", _at),
    Column("finalized_on", _at),
    Column("updated_at", _at, nullable=False),
    Column("event_id", BigInteger),
    Index("ix_shopify_disputes_order", "shop_id", "order_gid"),
)

tender_transactions = Table(
    "tender_transactions",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("tender_transaction_id", BigInteger, primary_key=True),
    Column("order_gid", Text, nullable=False, server_default=_EMPTY),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("payment_method", Text, nullable=False, server_default=_EMPTY),
    Column("remote_reference", Text, nullable=False, server_default=_EMPTY),
    Column("is_test", Boolean, nullable=False, server_default=text("false")),
    Column("processed_at", _at, nullable=False),
    Column("event_id", BigInteger),
    Index("ix_tender_transactions_order", "shop_id", "order_gid"),
)
