"""Tables of fulfillment, transfers, returns, notices, disputes and tender transactions.

``field_versions`` has the newest value of each field and its time: ``{"status": [time, value]}``. The other
columns are derived from it, for queries; see ``partial_updates``.
"""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import SchemaItem

from services.core.db import metadata

_at = DateTime(timezone=True)
_ZERO = text("0")


def _entity(name: str, key: str, *columns: SchemaItem) -> Table:
    """Return the table of one kind of entity by shop and Shopify's id ``key``."""
    return Table(
        name,
        metadata,
        Column("shop_id", Integer, primary_key=True),
        Column(key, BigInteger, primary_key=True),
        *columns,
        Column("event_id", BigInteger),
    )


def _partial_entity(name: str, key: str, *columns: SchemaItem) -> Table:
    """Return the table of one kind of entity whose events contain only the fields that changed."""
    return _entity(name, key, *columns, _updated_at(), Column("field_versions", JSONB, nullable=False))


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default=text("''"))


def _updated_at() -> Column[object]:
    return Column("updated_at", _at, nullable=False)


fulfillments = _entity(
    "fulfillments",
    "fulfillment_id",
    Column("order_gid", Text, nullable=False),
    Column("status", Text, nullable=False),
    _text("shipment_status"),
    Column("location_id", BigInteger),
    Column("quantity", Integer, nullable=False, server_default=_ZERO),
    Column("fulfilled_at", _at, nullable=False),
    _updated_at(),
    Index("ix_fulfillments_order", "shop_id", "order_gid"),
)

fulfillment_events = _entity(
    "fulfillment_events",
    "fulfillment_event_id",
    Column("fulfillment_id", BigInteger, nullable=False),
    _text("order_gid"),
    _text("status"),
    Column("happened_at", _at, nullable=False),
    Column("delivery_expected_at", _at),
    _updated_at(),
    Column("deleted_at", _at),
    Index("ix_fulfillment_events_fulfillment", "shop_id", "fulfillment_id", "happened_at"),
    Index("ix_fulfillment_events_order", "shop_id", "order_gid"),
)

# Shopify's payloads of a fulfillment order do not contain its order: ``order_gid`` is empty unless one did.
fulfillment_orders = _partial_entity(
    "fulfillment_orders",
    "fulfillment_order_id",
    _text("order_gid"),
    _text("status"),
    _text("request_status"),
    Column("location_id", BigInteger),
    Column("is_on_hold", Boolean, nullable=False, server_default=text("false")),
    _text("hold_reason"),
    Column("fulfill_at", _at),
    Column("prepared_at", _at),
    Index("ix_fulfillment_orders_on_hold", "shop_id", postgresql_where=text("is_on_hold")),
    Index("ix_fulfillment_orders_order", "shop_id", "order_gid", postgresql_where=text("order_gid <> ''")),
)

inventory_transfers = _partial_entity(
    "inventory_transfers",
    "inventory_transfer_id",
    _text("status"),
    Column("origin_id", BigInteger),
    Column("destination_id", BigInteger),
    Column("quantity", BigInteger),
)

inventory_shipments = _partial_entity(
    "inventory_shipments",
    "inventory_shipment_id",
    _text("status"),
    Column("arrives_at", _at),
    Column("quantity", BigInteger),
    Column("accepted_quantity", BigInteger, nullable=False, server_default=_ZERO),
    Column("rejected_quantity", BigInteger, nullable=False, server_default=_ZERO),
    Column("deleted_at", _at),
)

order_returns = _partial_entity(
    "order_returns",
    "return_id",
    _text("order_gid"),
    _text("name"),
    _text("status"),
    _text("decline_reason"),
    Column("line_count", Integer),
    Column("quantity", BigInteger),
    Column("shipping_attached_at", _at),
    Index("ix_order_returns_order", "shop_id", "order_gid"),
)

reverse_fulfillment_orders = _partial_entity(
    "reverse_fulfillment_orders",
    "reverse_fulfillment_order_id",
    Column("restocked_quantity", BigInteger, nullable=False, server_default=_ZERO),
    Column("not_restocked_quantity", BigInteger, nullable=False, server_default=_ZERO),
    Column("missing_quantity", BigInteger, nullable=False, server_default=_ZERO),
    Column("disposed_quantity", BigInteger, nullable=False, server_default=_ZERO),
)

variant_stock = _entity(
    "variant_stock",
    "variant_id",
    Column("product_id", BigInteger),
    Column("is_in_stock", Boolean, nullable=False),
    _updated_at(),
)

order_notices = Table(
    "order_notices",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("order_gid", Text, primary_key=True),
    _text("risk_level"),
    _text("protect_status"),
    _text("protect_eligibility"),
    _text("doubts"),
    _updated_at(),
    Column("field_versions", JSONB, nullable=False),
    Column("event_id", BigInteger),
)

# Disputes of Shopify Payments. Those of the shop's own Stripe account are ``transactions``.
shopify_disputes = _entity(
    "shopify_disputes",
    "dispute_id",
    _text("order_gid"),
    _text("kind"),
    Column("status", Text, nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    _text("reason"),
    _text("network_reason_code"),
    Column("initiated_at", _at),
    Column("evidence_due_by", _at),
    Column("evidence_sent_on", _at),
    Column("finalized_on", _at),
    _updated_at(),
    Index("ix_shopify_disputes_order", "shop_id", "order_gid"),
)

tender_transactions = _entity(
    "tender_transactions",
    "tender_transaction_id",
    _text("order_gid"),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    _text("payment_method"),
    _text("remote_reference"),
    Column("is_test", Boolean, nullable=False, server_default=text("false")),
    Column("processed_at", _at, nullable=False),
    Index("ix_tender_transactions_order", "shop_id", "order_gid"),
)
