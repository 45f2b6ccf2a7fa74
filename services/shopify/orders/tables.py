"""Orders, their lines, refunds and payments. Money is integer minor units with its currency."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import metadata

_at = DateTime(timezone=True)
_EMPTY = text("''")
_ZERO = text("0")

# One row per order, in the state of its newest event. Every amount is in the shop's currency.
# ``updated_at`` is the epoch where only the deletion was received; then all other columns are empty.
# ``placed_at``: when the sale counts: Shopify's ``processed_at``, which an import sets to the past, else
# ``created_at``. ``is_test``: the order counts nowhere. Null in ``subtotal_cents``, ``tax_cents``,
# ``shipping_cents``, ``discount_cents`` and ``current_...``: not stated.
# In ``total_cents`` and no sale: ``tip_cents``, ``duties_cents``, ``additional_fees_cents`` (of shipping
# abroad). ``duties_included``: the prices of the lines contain the duties. ``current_...``: what refunds and
# edits left of duties and fees. ``conversion_cents``: total less parts of an order that was paid in another
# currency, from rounding; may be negative. ``rounding_cents``, ``refund_rounding_cents``: what rounding added
# to the cash paid, and to the cash given back; may be negative.
# ``is_tax_exempt``: of the order or its customer. ``province``: of the shipping address; empty where the
# goods are handed over (``location_id`` is the counter; a pickup has the location of its fulfillment order);
# of the billing address only where nothing is delivered.
# ``shipping_cents`` and ``shipping_taxes`` are without removed shipping lines. ``taxes`` and
# ``shipping_taxes`` are lists of {"title", "rate", "cents"}: ``rate`` is a share ("0.05"), also where Shopify
# states percent; "liable": true only where the channel remits the tax and the shop does not. A tax that is
# stated for the whole order is split over its lines.
# ``content_digest`` decides between two states of one second and equal status, so that the events end in the
# same row in any order.
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
    Column("subtotal_cents", BigInteger),
    Column("tax_cents", BigInteger),
    Column("shipping_cents", BigInteger),
    Column("discount_cents", BigInteger),
    Column("taxes_included", Boolean, nullable=False, server_default=text("false")),
    Column("shipping_taxes", JSONB),
    Column("customer_id", BigInteger),
    Column("staff_label", Text, nullable=False, server_default=_EMPTY),
    Column("province", Text, nullable=False, server_default=_EMPTY),
    Column("fulfillment_status", Text, nullable=False, server_default=_EMPTY),
    Column("deleted_at", _at),
    Column("content_digest", Text, nullable=False, server_default=_EMPTY),
    Column("location_id", BigInteger),
    Column("is_test", Boolean, nullable=False, server_default=text("false")),
    Column("is_tax_exempt", Boolean, nullable=False, server_default=text("false")),
    Column("tip_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("duties_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("rounding_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("refund_rounding_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("duties_included", Boolean, nullable=False, server_default=text("false")),
    Column("current_duties_cents", BigInteger),
    Column("additional_fees_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("current_additional_fees_cents", BigInteger),
    Column("conversion_cents", BigInteger, nullable=False, server_default=_ZERO),
    Index("ix_orders_placed_at", "shop_id", "placed_at"),
    Index("ix_orders_customer", "shop_id", "customer_id", postgresql_where=text("customer_id is not null")),
)

# ``is_tip``: the line is a tip and no goods; the order's ``tip_cents`` contains it. ``quantity`` was ordered,
# ``refunded_quantity`` is in refunds, booked or not, and ``current_quantity`` is left (null: not stated).
# greatest(0, quantity - current_quantity - refunded_quantity) pieces were removed and count nowhere.
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
    Column("discount_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("is_taxable", Boolean, nullable=False, server_default=text("true")),
    Column("is_gift_card", Boolean, nullable=False, server_default=text("false")),
    Column("taxes", JSONB),
    Column("product_id", BigInteger),
    Column("staff_label", Text, nullable=False, server_default=_EMPTY),
    Column("is_tip", Boolean, nullable=False, server_default=text("false")),
    Column("current_quantity", Integer),
)

# Keyed by the order too: refunds of two orders, and lines of two refunds, may have one id.
# A refund counts only where ``status`` is 'success' (not 'pending' or 'failed'), on the day of
# ``refunded_at`` (Shopify's ``processed_at``, else ``created_at``). Amounts are in the shop's currency.
# ``amount_cents`` is the money given back. Its parts, positive where the customer gets them: the lines
# (``order_refund_lines``; a line of a tip belongs to ``tip_cents`` and is no goods), shipping, duties,
# ``tip_cents``, ``additional_fees_cents``, ``unexplained_cents`` (beyond all parts that Shopify states; also
# the rounding of a payment in foreign currency, which may be negative) and ``rounding_cents`` (the order's
# ``refund_rounding_cents``). ``adjustment_cents`` and ``adjustment_tax_cents`` have Shopify's sign, negative
# where the customer got more than the other parts, so they are added to sales as they are. Lines beyond the
# money were never paid or pay an exchange: they do not reduce sales. ``transactions`` is a list of {"id",
# "status", "cents", "is_foreign"}, of which ``status`` is made; ``is_foreign``: paid in another currency, so
# ``cents`` is a conversion.
order_refunds = Table(
    "order_refunds",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("order_gid", Text, primary_key=True),
    Column("refund_id", BigInteger, primary_key=True),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("refunded_at", _at, nullable=False),
    Column("shipping_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("shipping_tax_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("status", Text, nullable=False, server_default=text("'success'")),
    Column("duties_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("tip_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("adjustment_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("adjustment_tax_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("unexplained_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("rounding_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("transactions", JSONB),
    Column("additional_fees_cents", BigInteger, nullable=False, server_default=_ZERO),
    Index("ix_order_refunds_refunded_at", "shop_id", "refunded_at"),
)

order_refund_lines = Table(
    "order_refund_lines",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("order_gid", Text, primary_key=True),
    Column("refund_id", BigInteger, primary_key=True),
    Column("refund_line_id", BigInteger, primary_key=True),
    Column("line_id", BigInteger, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("subtotal_cents", BigInteger, nullable=False, server_default=_ZERO),
    Column("tax_cents", BigInteger, nullable=False, server_default=_ZERO),
)

DUTIES_REMOVED = """
 case when o.duties_cents = 0 then 0 else greatest(0,
   o.duties_cents - coalesce(o.current_duties_cents, o.duties_cents)
   - (select coalesce(sum(d.duties_cents), 0)::bigint from order_refunds d
       where d.shop_id = o.shop_id and d.order_gid = o.order_gid)) end
"""
"""Duties of the order ``o`` that an edit removed and no refund contains: they were never charged."""

# Money that moved at Shopify for an order. ``payment_ref`` is the payment provider's id of it, where stated
# (Stripe's ch_... or pi_...): it ties an order to its charge. ``currency`` is that of the money that moved,
# the buyer's in a foreign sale. ``is_test``: no money moved, it counts nowhere.
order_transactions = Table(
    "order_transactions",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("order_transaction_id", BigInteger, primary_key=True),
    Column("order_gid", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("gateway", Text, nullable=False, server_default=_EMPTY),
    Column("amount_cents", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("parent_id", BigInteger),
    Column("payment_ref", Text, nullable=False, server_default=_EMPTY),
    Column("processed_at", _at, nullable=False),
    Column("event_id", BigInteger),
    Column("is_test", Boolean, nullable=False, server_default=text("false")),
    Index("ix_order_transactions_order", "shop_id", "order_gid"),
    Index(
        "ix_order_transactions_payment_ref",
        "shop_id",
        "payment_ref",
        postgresql_where=text("payment_ref <> ''"),
    ),
)
