"""Tables of shops, customers, products and stock. Those of orders and logistics are in their rooms."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import metadata

_at = DateTime(timezone=True)
_EMPTY = text("''")
_ZERO = text("0")

# The only Shopify table with personal data: all others have the customer's number.
customers = Table(
    "customers",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("customer_id", BigInteger, primary_key=True),
    Column("name", Text, nullable=False, server_default=_EMPTY),
    Column("email", Text, nullable=False, server_default=_EMPTY),
    Column("phone", Text, nullable=False, server_default=_EMPTY),
    Column("updated_at", _at, nullable=False),
    Column("deleted_at", _at),
    Column("redacted_at", _at),
)

products = Table(
    "products",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("product_id", BigInteger, primary_key=True),
    Column("title", Text, nullable=False, server_default=_EMPTY),
    Column("status", Text, nullable=False, server_default=_EMPTY),
    Column("updated_at", _at, nullable=False),
    Column("deleted_at", _at),
    Column("product_type", Text, nullable=False, server_default=_EMPTY),
    Column("tags", Text, nullable=False, server_default=_EMPTY),
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
    Column("product_id", BigInteger),
    Column("deleted_at", _at),
    Index("ix_variants_sku", "shop_id", "sku"),
    Index("ix_variants_product", "shop_id", "product_id"),
    Index("ix_variants_variant", "shop_id", "variant_id"),
)

# ``cost_cents`` is the unit cost in the shop's currency; null: not stated.
inventory_items = Table(
    "inventory_items",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("inventory_item_id", BigInteger, primary_key=True),
    Column("sku", Text, nullable=False, server_default=_EMPTY),
    Column("is_tracked", Boolean, nullable=False, server_default=text("true")),
    Column("cost_cents", BigInteger),
    Column("updated_at", _at, nullable=False),
    Column("deleted_at", _at),
)

locations = Table(
    "locations",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("location_id", BigInteger, primary_key=True),
    Column("name", Text, nullable=False, server_default=_EMPTY),
    Column("province", Text, nullable=False, server_default=_EMPTY),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("updated_at", _at, nullable=False),
    Column("deleted_at", _at),
)

# The shop object of Shopify. The settings ``shops.currency`` and ``timezone`` stay a person's decision.
storefronts = Table(
    "storefronts",
    metadata,
    Column("shop_id", Integer, primary_key=True, autoincrement=False),
    Column("shopify_id", BigInteger),
    Column("name", Text, nullable=False, server_default=_EMPTY),
    Column("currency", Text, nullable=False, server_default=_EMPTY),
    Column("timezone", Text, nullable=False, server_default=_EMPTY),
    Column("province", Text, nullable=False, server_default=_EMPTY),
    Column("plan_name", Text, nullable=False, server_default=_EMPTY),
    Column("updated_at", _at, nullable=False),
    Column("uninstalled_at", _at),
)

# Requests of Shopify's three mandatory privacy topics. ``result`` has the counts of what was exported or
# redacted, and the place of the export; nothing personal.
privacy_requests = Table(
    "privacy_requests",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("shop_id", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("customer_id", BigInteger),
    Column("event_id", BigInteger, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'open'")),
    Column("received_at", _at, nullable=False),
    Column("due_at", _at, nullable=False),
    Column("done_at", _at),
    Column("result", JSONB, nullable=False, server_default=text("'{}'")),
    Column("confirmed_at", _at),
    Column("confirmed_by", Text, nullable=False, server_default=text("''")),
    UniqueConstraint("shop_id", "event_id", name="uq_privacy_requests_event"),
)

# The webhook subscriptions that were found at Shopify. A lost one has ``lost_at``; ``imported_at`` is when
# the events that it missed were imported from Shopify's lists.
webhook_subscriptions = Table(
    "webhook_subscriptions",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("subscription_gid", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("seen_at", _at, nullable=False),
    Column("lost_at", _at),
    Column("imported_at", _at),
)

# ``shopify_available`` is the last known figure at Shopify. Without a count (``counted_at`` null)
# ``available`` is the same figure. With a count ``available`` is ``counted_available`` plus every movement of
# the item at the location later than ``counted_at``, and a push is due while the two differ. A level of a
# pool (``pool``, ``pool_sku``) has the pool's figure as ``available``. ``known_at`` is the time of
# ``shopify_available`` by Shopify's clock; ``doubts`` counts later signs that the figure changed without
# saying to what, so the level is read first: see ``services.shopify.stock.pools``.
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
    Column("disconnected_at", _at),
    Column("counted_available", Integer),
    Column("counted_at", _at),
    Column("pool", Text),
    Column("pool_sku", Text),
    Column("known_at", _at),
    Column("doubts", Integer, nullable=False, server_default=_ZERO),
    Index("ix_inventory_levels_sku", "shop_id", "sku"),
    Index("ix_inventory_levels_pool", "pool", "pool_sku", postgresql_where=text("pool is not null")),
)

stock_pools = Table(
    "stock_pools",
    metadata,
    Column("name", Text, primary_key=True),
    Column("safety_buffer", Integer, nullable=False, server_default=_ZERO),
)

# ``available`` is what all shops of the pool have for sale, before the safety buffer; below zero when
# oversold.
stock_pool_items = Table(
    "stock_pool_items",
    metadata,
    Column("pool", Text, ForeignKey("stock_pools.name"), primary_key=True),
    Column("sku", Text, primary_key=True),
    Column("available", Integer, nullable=False),
    Column("changed_at", _at, nullable=False),
)

# ``source`` is what moved the stock, once each: ``order-line:<id>`` or ``refund-line:<id>``, with the id of
# its order or refund where another one has a line of that id. ``variant_id`` and ``location_id`` are as in
# the payload, null where it has none; ``services.shopify.stock.level_moves`` resolves them to a level.
stock_movements = Table(
    "stock_movements",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("sku", Text, nullable=False),
    Column("delta", Integer, nullable=False),
    Column("at", _at, nullable=False),
    Column("variant_id", BigInteger),
    Column("location_id", BigInteger),
    Column("order_id", BigInteger),
    Index("ix_stock_movements_sku_at", "shop_id", "sku", "at"),
    Index(
        "ix_stock_movements_variant_at",
        "shop_id",
        "variant_id",
        "at",
        postgresql_where=text("variant_id is not null"),
    ),
)
