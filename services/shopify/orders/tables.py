"""Orders, their lines, refunds and payments. Money is integer minor units with its currency."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from services.core.columns import AT, EMPTY, FALSE, ZERO, columns, optional
from services.core.db import metadata
from services.shopify.tables import key_columns

# One row per order, in the state of its newest event. Every amount is in the shop's currency.
# ``updated_at`` is the epoch if only the deletion was received; then all other columns are empty.
# ``placed_at`` is the time of the sale: Shopify's ``processed_at`` (an import may set a past time), else
# ``created_at``. ``is_test``: the order counts nowhere. ``subtotal_cents``, ``tax_cents``,
# ``shipping_cents``, ``discount_cents`` and ``current_...`` are null if the payload does not contain them.
# Part of ``total_cents``, but not sales: ``tip_cents``, ``duties_cents``, ``additional_fees_cents`` (of
# shipping abroad). ``duties_included``: the prices of the lines contain the duties. ``current_...``: what
# refunds and edits left of duties and fees. ``conversion_cents``: total less parts of an order that was paid
# in another currency, from rounding; may be negative. ``rounding_cents``, ``refund_rounding_cents``: what
# rounding added to the cash paid, and to the cash given back; may be negative.
# ``is_tax_exempt``: of the order or its customer. ``province``: of the shipping address; empty if the items
# are handed over (``location_id`` is the counter; a pickup has the location of its fulfillment order); of the
# billing address only if nothing is delivered.
# ``shipping_cents`` and ``shipping_taxes`` are without removed shipping lines. ``taxes`` and
# ``shipping_taxes`` are lists of {"title", "rate", "cents"}: ``rate`` is a share ("0.05"), also if Shopify
# sends a percentage; "liable": true only if the channel, not the shop, remits the tax. A tax of the whole
# order is split over its lines.
# ``content_digest`` decides between two states of the same second and status, so that the events result in
# the same row in any order.
orders = Table(
    "orders",
    metadata,
    *key_columns(),
    Column("order_gid", Text, primary_key=True),
    *columns("name currency financial_status", Text),
    Column("stage", Text, nullable=False, server_default=text("'Filling'")),
    *columns("staff_label province fulfillment_status content_digest", Text, EMPTY),
    *columns("total_cents", BigInteger),
    *columns("refunded_cents tip_cents duties_cents rounding_cents refund_rounding_cents", BigInteger, ZERO),
    *columns("additional_fees_cents conversion_cents", BigInteger, ZERO),
    *optional("subtotal_cents tax_cents shipping_cents discount_cents current_duties_cents", BigInteger),
    *optional("current_additional_fees_cents", BigInteger),
    *optional("event_id customer_id location_id", BigInteger),
    *columns("taxes_included duties_included is_test is_tax_exempt", Boolean, FALSE),
    *columns("placed_at updated_at", AT),
    *optional("cancelled_at deleted_at", AT),
    Column("shipping_taxes", JSONB),
    Index("ix_orders_placed_at", "shop_id", "placed_at"),
    Index("ix_orders_customer", "shop_id", "customer_id", postgresql_where=text("customer_id is not null")),
)

# ``is_tip``: the line is a tip, not an item; the order's ``tip_cents`` contains it. ``quantity``: ordered
# pieces. ``refunded_quantity``: pieces in refunds of any status. ``current_quantity``: pieces left (null: not
# known). greatest(0, quantity - current_quantity - refunded_quantity) pieces were removed and count nowhere.
order_lines = Table(
    "order_lines",
    metadata,
    *key_columns(),
    Column("order_gid", Text, primary_key=True),
    Column("line_id", BigInteger, primary_key=True),
    *columns("sku title", Text),
    *columns("staff_label", Text, EMPTY),
    *columns("quantity", Integer),
    *columns("refunded_quantity", Integer, ZERO),
    *optional("current_quantity", Integer),
    *columns("price_cents", BigInteger),
    *columns("discount_cents", BigInteger, ZERO),
    *columns("is_taxable", Boolean, text("true")),
    *columns("is_gift_card is_tip", Boolean, FALSE),
    *optional("product_id", BigInteger),
    Column("taxes", JSONB),
)

# The order is part of the key: refunds of two orders, and lines of two refunds, may have the same id.
# A refund counts only if ``status`` is 'success' (not 'pending' or 'failed'), on the day of
# ``refunded_at`` (Shopify's ``processed_at``, else ``created_at``). Amounts are in the shop's currency.
# ``amount_cents`` is the money given back. Its parts, positive if the customer gets them: the lines
# (``order_refund_lines``; a tip line belongs to ``tip_cents``), shipping, duties, ``tip_cents``,
# ``additional_fees_cents``, ``unexplained_cents`` (beyond all parts in Shopify's refund; also the rounding of
# a payment in foreign currency, which may be negative) and ``rounding_cents`` (the order's
# ``refund_rounding_cents``). ``adjustment_cents`` and ``adjustment_tax_cents`` have Shopify's sign, negative
# if the customer got more than the other parts, so they are added to sales unchanged. Lines beyond the money
# were never paid or pay an exchange: they do not reduce sales. ``transactions`` is a list of {"id", "status",
# "cents", "is_foreign"} that determines ``status``; ``is_foreign``: paid in another currency, so ``cents`` is
# a conversion.
order_refunds = Table(
    "order_refunds",
    metadata,
    *key_columns(),
    Column("order_gid", Text, primary_key=True),
    Column("refund_id", BigInteger, primary_key=True),
    *columns("amount_cents", BigInteger),
    *columns("currency", Text),
    *columns("refunded_at", AT),
    *columns("status", Text, text("'success'")),
    *columns("shipping_cents shipping_tax_cents duties_cents tip_cents", BigInteger, ZERO),
    *columns("adjustment_cents adjustment_tax_cents unexplained_cents rounding_cents", BigInteger, ZERO),
    *columns("additional_fees_cents", BigInteger, ZERO),
    Column("transactions", JSONB),
    Index("ix_order_refunds_refunded_at", "shop_id", "refunded_at"),
)

order_refund_lines = Table(
    "order_refund_lines",
    metadata,
    *key_columns(),
    Column("order_gid", Text, primary_key=True),
    Column("refund_id", BigInteger, primary_key=True),
    Column("refund_line_id", BigInteger, primary_key=True),
    *columns("line_id", BigInteger),
    *columns("quantity", Integer),
    *columns("subtotal_cents tax_cents", BigInteger, ZERO),
)

DUTIES_REMOVED = """
 case when o.duties_cents = 0 then 0 else greatest(0,
   o.duties_cents - coalesce(o.current_duties_cents, o.duties_cents)
   - (select coalesce(sum(d.duties_cents), 0)::bigint from order_refunds d
       where d.shop_id = o.shop_id and d.order_gid = o.order_gid)) end
"""
"""SQL: duties of the order ``o`` that an edit removed and no refund contains: they were never charged."""

# Payments of an order at Shopify. ``payment_ref`` is the payment provider's id, if known (Stripe's ch_... or
# pi_...): it links an order to its charge. ``currency`` is of the payment, the buyer's in a foreign sale.
# ``is_test``: no money was paid, it counts nowhere.
order_transactions = Table(
    "order_transactions",
    metadata,
    *key_columns("order_transaction_id"),
    *columns("order_gid kind status currency", Text),
    *columns("gateway payment_ref", Text, EMPTY),
    *columns("amount_cents", BigInteger),
    *columns("processed_at", AT),
    *columns("is_test", Boolean, FALSE),
    *optional("parent_id event_id", BigInteger),
    Index("ix_order_transactions_order", "shop_id", "order_gid"),
    Index(
        "ix_order_transactions_payment_ref",
        "shop_id",
        "payment_ref",
        postgresql_where=text("payment_ref <> ''"),
    ),
)
