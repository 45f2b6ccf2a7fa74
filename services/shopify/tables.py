"""Tables of shops, customers, products and stock. Orders and logistics have other modules."""

from collections import namedtuple
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
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

from services.core.columns import AT, EMPTY, ZERO, columns, optional
from services.core.db import metadata

_TRUE = text("true")


def key_columns(*names: str) -> list[Column[Any]]:
    """Return the columns of a primary key of the shop and Shopify's ids ``names``."""
    shop_id = Column("shop_id", Integer, primary_key=True, autoincrement=False)
    return [shop_id, *(Column(name, BigInteger, primary_key=True) for name in names)]


def data_class(table: Table, ranks: Mapping[Any, int] = MappingProxyType({}), ranked: str = "status") -> Any:
    """Return a named tuple of the data in a row of ``table``.

    Of two states the later ``updated_at`` wins, then the value of the column ``ranked`` with the higher rank
    in ``ranks``, then the other columns decide.
    """
    others = ("event_id", "deleted_at", "uninstalled_at", *table.primary_key.columns.keys())
    names = [column.name for column in table.columns if column.name not in others]

    def version(self: Any) -> tuple[Any, ...]:
        order = (getattr(self, "updated_at", None), ranks.get(getattr(self, ranked, ""), 0))
        return (*order, *((value is not None, value) for value in self))

    return type(table.name, (namedtuple(table.name, names),), {"version": property(version)})


# The only Shopify table with personal data: all others have the customer's number.
customers = Table(
    "customers",
    metadata,
    *key_columns("customer_id"),
    *columns("name email phone", Text, EMPTY),
    *columns("updated_at", AT),
    *optional("deleted_at redacted_at", AT),
)

products = Table(
    "products",
    metadata,
    *key_columns("product_id"),
    *columns("title status product_type tags", Text, EMPTY),
    *columns("updated_at", AT),
    *optional("deleted_at", AT),
)

variants = Table(
    "variants",
    metadata,
    *key_columns("inventory_item_id"),
    *columns("variant_id", BigInteger),
    *columns("sku title", Text),
    *columns("updated_at", AT),
    *optional("product_id", BigInteger),
    *optional("deleted_at", AT),
    Index("ix_variants_sku", "shop_id", "sku"),
    Index("ix_variants_product", "shop_id", "product_id"),
    Index("ix_variants_variant", "shop_id", "variant_id"),
)

# ``cost_cents`` is the unit cost in the shop's currency; null: not known.
inventory_items = Table(
    "inventory_items",
    metadata,
    *key_columns("inventory_item_id"),
    *columns("sku", Text, EMPTY),
    *columns("is_tracked", Boolean, _TRUE),
    *optional("cost_cents", BigInteger),
    *columns("updated_at", AT),
    *optional("deleted_at", AT),
)

locations = Table(
    "locations",
    metadata,
    *key_columns("location_id"),
    *columns("name province", Text, EMPTY),
    *columns("is_active", Boolean, _TRUE),
    *columns("updated_at", AT),
    *optional("deleted_at", AT),
)

# The shop object of Shopify. Only a person changes the settings ``shops.currency`` and ``timezone``.
storefronts = Table(
    "storefronts",
    metadata,
    *key_columns(),
    *optional("shopify_id", BigInteger),
    *columns("name currency timezone province plan_name", Text, EMPTY),
    *columns("updated_at", AT),
    *optional("uninstalled_at", AT),
)

# Requests of Shopify's three mandatory privacy topics. ``result`` has the counts of what was exported or
# redacted, and where the export is stored; nothing personal.
privacy_requests = Table(
    "privacy_requests",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    *columns("shop_id", Integer),
    *columns("kind", Text),
    *optional("customer_id", BigInteger),
    *columns("event_id", BigInteger),
    *columns("status", Text, text("'open'")),
    *columns("received_at due_at", AT),
    *optional("done_at confirmed_at", AT),
    *columns("result", JSONB, text("'{}'")),
    *columns("confirmed_by", Text, EMPTY),
    UniqueConstraint("shop_id", "event_id", name="uq_privacy_requests_event"),
)

# The webhook subscriptions that were found at Shopify. A lost one has ``lost_at``; ``imported_at`` is when
# its missed events were imported from Shopify's lists.
webhook_subscriptions = Table(
    "webhook_subscriptions",
    metadata,
    *key_columns(),
    Column("topic", Text, primary_key=True),
    *columns("subscription_gid uri", Text),
    *columns("seen_at", AT),
    *optional("lost_at imported_at", AT),
)

# ``shopify_available`` is the last known figure at Shopify. Without a count (``counted_at`` null)
# ``available`` is the same figure. With a count ``available`` is ``counted_available`` plus every movement of
# the item at the location later than ``counted_at``, and a push is planned while the two differ. A level of a
# pool (``pool``, ``pool_sku``) has the pool's figure as ``available``. ``known_at`` is the time of
# ``shopify_available`` by Shopify's clock. ``doubts`` counts later events after which Shopify's figure is not
# clear, so the level is read first: see ``services.shopify.stock.pools``.
inventory_levels = Table(
    "inventory_levels",
    metadata,
    *key_columns("inventory_item_id", "location_id"),
    *columns("sku", Text, EMPTY),
    *columns("available observed_available", Integer),
    *columns("observed_at changed_at", AT),
    *optional("reorder_point shopify_available counted_available", Integer),
    *optional("disconnected_at counted_at known_at", AT),
    *optional("pool pool_sku", Text),
    *columns("doubts", Integer, ZERO),
    Index("ix_inventory_levels_sku", "shop_id", "sku"),
    Index("ix_inventory_levels_pool", "pool", "pool_sku", postgresql_where=text("pool is not null")),
)

stock_pools = Table(
    "stock_pools",
    metadata,
    Column("name", Text, primary_key=True),
    *columns("safety_buffer", Integer, ZERO),
)

# ``available``: pieces for sale in all shops of the pool, before the safety buffer; below zero if oversold.
stock_pool_items = Table(
    "stock_pool_items",
    metadata,
    Column("pool", Text, ForeignKey("stock_pools.name"), primary_key=True),
    Column("sku", Text, primary_key=True),
    *columns("available", Integer),
    *columns("changed_at", AT),
)

# ``source`` is the unique cause: ``order-line:<id>`` or ``refund-line:<id>``, with the id of its order or
# refund added if another one has a line with that id. ``variant_id`` and ``location_id`` are as in the
# payload, null if absent; ``services.shopify.stock.movement_levels`` finds their level.
stock_movements = Table(
    "stock_movements",
    metadata,
    *key_columns(),
    Column("source", Text, primary_key=True),
    *columns("sku", Text),
    *columns("delta", Integer),
    *columns("at", AT),
    *optional("variant_id location_id order_id", BigInteger),
    Index("ix_stock_movements_sku_at", "shop_id", "sku", "at"),
    Index(
        "ix_stock_movements_variant_at",
        "shop_id",
        "variant_id",
        "at",
        postgresql_where=text("variant_id is not null"),
    ),
)
