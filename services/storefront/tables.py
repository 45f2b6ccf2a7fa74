"""Orders and stock. Money is integer minor units with its currency beside it."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from services.core.db import metadata

_at = DateTime(timezone=True)

orders = Table(
    "orders",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("order_gid", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("stage", Text, nullable=False, server_default=text("'Filling'")),
    Column("total_cents", BigInteger, nullable=False),
    Column("refunded_cents", BigInteger, nullable=False, server_default=text("0")),
    Column("currency", Text, nullable=False),
    Column("financial_status", Text, nullable=False),
    Column("cancelled_at", _at),
    Column("placed_at", _at, nullable=False),
    Column("updated_at", _at, nullable=False),
    Column("event_id", BigInteger),
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("order_gid", Text, primary_key=True),
    Column("line_id", BigInteger, primary_key=True),
    Column("sku", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("refunded_quantity", Integer, nullable=False, server_default=text("0")),
    Column("price_cents", BigInteger, nullable=False),
)

order_refunds = Table(
    "order_refunds",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("refund_id", BigInteger, primary_key=True),
    Column("order_gid", Text, nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("refunded_at", _at, nullable=False),
    Index("ix_order_refunds_order", "shop_id", "order_gid"),
)

order_refund_lines = Table(
    "order_refund_lines",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("refund_line_id", BigInteger, primary_key=True),
    Column("refund_id", BigInteger, nullable=False),
    Column("order_gid", Text, nullable=False),
    Column("line_id", BigInteger, nullable=False),
    Column("quantity", Integer, nullable=False),
    Index("ix_order_refund_lines_order", "shop_id", "order_gid"),
)

variants = Table(
    "variants",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("inventory_item_id", BigInteger, primary_key=True),
    Column("variant_id", BigInteger, nullable=False),
    Column("sku", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("updated_at", _at, nullable=False),
    Index("ix_variants_sku", "shop_id", "sku"),
)

# ``available`` is always ``observed_available`` plus every movement later than ``observed_at``.
# ``shopify_available`` is what Shopify is known to hold; a push is due while the two differ.
inventory_levels = Table(
    "inventory_levels",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("inventory_item_id", BigInteger, primary_key=True),
    Column("location_id", BigInteger, primary_key=True),
    Column("sku", Text, nullable=False, server_default=text("''")),
    Column("available", Integer, nullable=False),
    Column("reorder_point", Integer),
    Column("observed_available", Integer, nullable=False),
    Column("observed_at", _at, nullable=False),
    Column("shopify_available", Integer),
    Column("changed_at", _at, nullable=False),
    Index("ix_inventory_levels_sku", "shop_id", "sku"),
)

# ``source`` says what moved the stock: ``order-line:<id>`` or ``refund-line:<id>``, once each.
stock_movements = Table(
    "stock_movements",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("sku", Text, nullable=False),
    Column("delta", Integer, nullable=False),
    Column("at", _at, nullable=False),
    Index("ix_stock_movements_sku_at", "shop_id", "sku", "at"),
)
