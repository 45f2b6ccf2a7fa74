"""What Shopify tells beside orders and stock: parcels, transfers, returns, disputes, notices"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.create_table(
        "fulfillment_events",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("fulfillment_event_id", sa.BigInteger(), nullable=False),
        sa.Column("fulfillment_id", sa.BigInteger(), nullable=False),
        sa.Column("order_gid", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivery_expected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "fulfillment_event_id", name=op.f("pk_fulfillment_events")),
    )
    op.create_index(
        "ix_fulfillment_events_fulfillment",
        "fulfillment_events",
        ["shop_id", "fulfillment_id", "happened_at"],
        unique=False,
    )
    op.create_index(
        "ix_fulfillment_events_order", "fulfillment_events", ["shop_id", "order_gid"], unique=False
    )
    op.create_table(
        "fulfillment_orders",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("fulfillment_order_id", sa.BigInteger(), nullable=False),
        sa.Column("order_gid", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("request_status", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("location_id", sa.BigInteger(), nullable=True),
        sa.Column("is_on_hold", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("hold_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("fulfill_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("prepared_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "fulfillment_order_id", name=op.f("pk_fulfillment_orders")),
    )
    op.create_index(
        "ix_fulfillment_orders_on_hold",
        "fulfillment_orders",
        ["shop_id"],
        unique=False,
        postgresql_where=sa.text("is_on_hold"),
    )
    op.create_table(
        "inventory_shipments",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("inventory_shipment_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("arrives_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("quantity", sa.BigInteger(), nullable=True),
        sa.Column("accepted_quantity", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("rejected_quantity", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "inventory_shipment_id", name=op.f("pk_inventory_shipments")),
    )
    op.create_table(
        "inventory_transfers",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("inventory_transfer_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("origin_id", sa.BigInteger(), nullable=True),
        sa.Column("destination_id", sa.BigInteger(), nullable=True),
        sa.Column("quantity", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "inventory_transfer_id", name=op.f("pk_inventory_transfers")),
    )
    op.create_table(
        "order_notices",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("order_gid", sa.Text(), nullable=False),
        sa.Column("risk_level", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("protect_status", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("protect_eligibility", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("link_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "order_gid", name=op.f("pk_order_notices")),
    )
    op.create_table(
        "order_returns",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("return_id", sa.BigInteger(), nullable=False),
        sa.Column("order_gid", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("decline_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("line_count", sa.Integer(), nullable=True),
        sa.Column("quantity", sa.BigInteger(), nullable=True),
        sa.Column("shipping_attached_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "return_id", name=op.f("pk_order_returns")),
    )
    op.create_index("ix_order_returns_order", "order_returns", ["shop_id", "order_gid"], unique=False)
    op.create_table(
        "reverse_fulfillment_orders",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("reverse_fulfillment_order_id", sa.BigInteger(), nullable=False),
        sa.Column("restocked_quantity", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_restocked_quantity", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("missing_quantity", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("disposed_quantity", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint(
            "shop_id", "reverse_fulfillment_order_id", name=op.f("pk_reverse_fulfillment_orders")
        ),
    )
    op.create_table(
        "shopify_disputes",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("dispute_id", sa.BigInteger(), nullable=False),
        sa.Column("order_gid", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("kind", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("network_reason_code", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("initiated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("evidence_due_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("evidence_sent_on", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finalized_on", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "dispute_id", name=op.f("pk_shopify_disputes")),
    )
    op.create_index("ix_shopify_disputes_order", "shopify_disputes", ["shop_id", "order_gid"], unique=False)
    op.create_table(
        "tender_transactions",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("tender_transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("order_gid", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("payment_method", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("remote_reference", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("is_test", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "tender_transaction_id", name=op.f("pk_tender_transactions")),
    )
    op.create_index(
        "ix_tender_transactions_order", "tender_transactions", ["shop_id", "order_gid"], unique=False
    )
    op.create_table(
        "variant_stock",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("variant_id", sa.BigInteger(), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=True),
        sa.Column("is_in_stock", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "variant_id", name=op.f("pk_variant_stock")),
    )


def downgrade() -> None:
    op.drop_table("variant_stock")
    op.drop_index("ix_tender_transactions_order", table_name="tender_transactions")
    op.drop_table("tender_transactions")
    op.drop_index("ix_shopify_disputes_order", table_name="shopify_disputes")
    op.drop_table("shopify_disputes")
    op.drop_table("reverse_fulfillment_orders")
    op.drop_index("ix_order_returns_order", table_name="order_returns")
    op.drop_table("order_returns")
    op.drop_table("order_notices")
    op.drop_table("inventory_transfers")
    op.drop_table("inventory_shipments")
    op.drop_index(
        "ix_fulfillment_orders_on_hold",
        table_name="fulfillment_orders",
        postgresql_where=sa.text("is_on_hold"),
    )
    op.drop_table("fulfillment_orders")
    op.drop_index("ix_fulfillment_events_order", table_name="fulfillment_events")
    op.drop_index("ix_fulfillment_events_fulfillment", table_name="fulfillment_events")
    op.drop_table("fulfillment_events")
