"""Books and stock: what orders, payments and months are made of, and the privacy requests"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    _add_tables()
    _add_columns()


def downgrade() -> None:
    _drop_columns()
    _drop_tables()


def _add_tables() -> None:
    op.create_table(
        "balance_entries",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("fee_cents", sa.BigInteger(), nullable=False),
        sa.Column("net_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("available_on", sa.Date(), nullable=True),
        sa.Column("payout_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "entry_id", name=op.f("pk_balance_entries")),
    )
    op.create_index(
        "ix_balance_entries_created_at", "balance_entries", ["shop_id", "created_at"], unique=False
    )
    op.create_index("ix_balance_entries_payout", "balance_entries", ["shop_id", "payout_id"], unique=False)
    op.create_index("ix_balance_entries_source", "balance_entries", ["shop_id", "source_id"], unique=False)
    op.create_table(
        "break_corrections",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("ours", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("theirs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("cause_event_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column(
            "evidence",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.CheckConstraint("change in ('found','closed')", name=op.f("ck_break_corrections_change")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_break_corrections")),
    )
    op.create_index("ix_break_corrections_day", "break_corrections", ["shop_id", "day"], unique=False)
    op.create_table(
        "found_breaks",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("ours", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("theirs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "evidence",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("cause", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("cause_event_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "shop_id", "day", "token", "kind", "provider_id", name=op.f("pk_found_breaks")
        ),
    )
    op.create_table(
        "closed_periods",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("begins_on", sa.Date(), nullable=False),
        sa.Column("ends_before", sa.Date(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("figures", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("files", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("manifest_key", sa.Text(), nullable=False),
        sa.Column("manifest_sha256", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "period", name=op.f("pk_closed_periods")),
    )
    op.create_table(
        "customers",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("email", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("phone", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("redacted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "customer_id", name=op.f("pk_customers")),
    )
    op.create_table(
        "fulfillments",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("fulfillment_id", sa.BigInteger(), nullable=False),
        sa.Column("order_gid", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("shipment_status", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("location_id", sa.BigInteger(), nullable=True),
        sa.Column("quantity", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("fulfilled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "fulfillment_id", name=op.f("pk_fulfillments")),
    )
    op.create_index("ix_fulfillments_order", "fulfillments", ["shop_id", "order_gid"], unique=False)
    op.create_table(
        "inventory_items",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("inventory_item_id", sa.BigInteger(), nullable=False),
        sa.Column("sku", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("is_tracked", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("cost_cents", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "inventory_item_id", name=op.f("pk_inventory_items")),
    )
    op.create_table(
        "locations",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("location_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("province", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "location_id", name=op.f("pk_locations")),
    )
    op.create_table(
        "order_transactions",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("order_transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("order_gid", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("payment_ref", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "order_transaction_id", name=op.f("pk_order_transactions")),
    )
    op.create_index(
        "ix_order_transactions_order", "order_transactions", ["shop_id", "order_gid"], unique=False
    )
    op.create_index(
        "ix_order_transactions_payment_ref",
        "order_transactions",
        ["shop_id", "payment_ref"],
        unique=False,
        postgresql_where=sa.text("payment_ref <> ''"),
    )
    op.create_table(
        "period_corrections",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("found_in", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("before_cents", sa.BigInteger(), nullable=False),
        sa.Column("after_cents", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_period_corrections")),
        sa.UniqueConstraint(
            "shop_id", "period", "found_in", "account", "currency", name="uq_period_corrections_identity"
        ),
    )
    op.create_table(
        "privacy_requests",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "result", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_privacy_requests")),
        sa.UniqueConstraint("shop_id", "event_id", name="uq_privacy_requests_event"),
    )
    op.create_table(
        "products",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "product_id", name=op.f("pk_products")),
    )
    op.create_table(
        "pull_marks",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("reached_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("pulled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "provider", "stream", name=op.f("pk_pull_marks")),
    )
    op.create_table(
        "storefronts",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("shopify_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("currency", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("timezone", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("province", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("plan_name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("uninstalled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", name=op.f("pk_storefronts")),
    )
    op.create_table(
        "webhook_subscriptions",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("subscription_gid", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lost_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "topic", name=op.f("pk_webhook_subscriptions")),
    )


def _add_columns() -> None:
    op.add_column("connections", sa.Column("token_expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("connections", sa.Column("refresh_expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("inventory_levels", sa.Column("disconnected_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "order_lines",
        sa.Column("discount_cents", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column(
        "order_lines", sa.Column("is_taxable", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )
    op.add_column(
        "order_lines",
        sa.Column("is_gift_card", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column("order_lines", sa.Column("taxes", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("order_lines", sa.Column("product_id", sa.BigInteger(), nullable=True))
    op.add_column(
        "order_lines", sa.Column("staff_label", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column(
        "order_refund_lines",
        sa.Column("subtotal_cents", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column(
        "order_refund_lines",
        sa.Column("tax_cents", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column(
        "order_refunds",
        sa.Column("shipping_cents", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column(
        "order_refunds",
        sa.Column("shipping_tax_cents", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.create_index("ix_order_refunds_refunded_at", "order_refunds", ["shop_id", "refunded_at"], unique=False)
    op.add_column("rate_limits", sa.Column("call_points", sa.Double(), nullable=True))
    op.add_column("orders", sa.Column("subtotal_cents", sa.BigInteger(), nullable=True))
    op.add_column("orders", sa.Column("tax_cents", sa.BigInteger(), nullable=True))
    op.add_column("orders", sa.Column("shipping_cents", sa.BigInteger(), nullable=True))
    op.add_column("orders", sa.Column("discount_cents", sa.BigInteger(), nullable=True))
    op.add_column(
        "orders", sa.Column("taxes_included", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column(
        "orders", sa.Column("shipping_taxes", postgresql.JSONB(astext_type=sa.Text()), nullable=True)
    )
    op.add_column("orders", sa.Column("customer_id", sa.BigInteger(), nullable=True))
    op.add_column("orders", sa.Column("staff_label", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("orders", sa.Column("province", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column(
        "orders", sa.Column("fulfillment_status", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column("orders", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "orders", sa.Column("content_digest", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column("orders", sa.Column("location_id", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_orders_customer",
        "orders",
        ["shop_id", "customer_id"],
        unique=False,
        postgresql_where=sa.text("customer_id is not null"),
    )
    op.create_index("ix_orders_placed_at", "orders", ["shop_id", "placed_at"], unique=False)
    op.add_column(
        "reconciliation_breaks",
        sa.Column("subject", sa.Text(), server_default=sa.text("'charge'"), nullable=False),
    )
    op.add_column(
        "reconciliation_breaks", sa.Column("cause", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column(
        "reconciliation_breaks",
        sa.Column("cause_event_id", sa.Text(), server_default=sa.text("''"), nullable=False),
    )
    op.add_column(
        "reconciliation_breaks",
        sa.Column(
            "evidence",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.add_column("transactions", sa.Column("fee_cents", sa.BigInteger(), nullable=True))
    op.add_column(
        "transactions", sa.Column("order_ref", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column(
        "transactions", sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column("transactions", sa.Column("arrives_on", sa.Date(), nullable=True))
    op.add_column(
        "transactions", sa.Column("content_digest", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.create_index(
        "ix_transactions_order_ref",
        "transactions",
        ["shop_id", "order_ref"],
        unique=False,
        postgresql_where=sa.text("order_ref <> ''"),
    )
    op.create_index(
        "ix_transactions_parent",
        "transactions",
        ["shop_id", "parent_id"],
        unique=False,
        postgresql_where=sa.text("parent_id is not null"),
    )
    op.add_column("variants", sa.Column("product_id", sa.BigInteger(), nullable=True))
    op.add_column("variants", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_variants_product", "variants", ["shop_id", "product_id"], unique=False)


def _drop_columns() -> None:
    op.drop_column("rate_limits", "call_points")
    op.drop_index("ix_variants_product", table_name="variants")
    op.drop_column("variants", "deleted_at")
    op.drop_column("variants", "product_id")
    op.drop_index(
        "ix_transactions_parent", table_name="transactions", postgresql_where=sa.text("parent_id is not null")
    )
    op.drop_index(
        "ix_transactions_order_ref", table_name="transactions", postgresql_where=sa.text("order_ref <> ''")
    )
    op.drop_column("transactions", "content_digest")
    op.drop_column("transactions", "arrives_on")
    op.drop_column("transactions", "reason")
    op.drop_column("transactions", "order_ref")
    op.drop_column("transactions", "fee_cents")
    op.drop_column("reconciliation_breaks", "evidence")
    op.drop_column("reconciliation_breaks", "cause_event_id")
    op.drop_column("reconciliation_breaks", "cause")
    op.drop_column("reconciliation_breaks", "subject")
    op.drop_index("ix_orders_placed_at", table_name="orders")
    op.drop_index(
        "ix_orders_customer", table_name="orders", postgresql_where=sa.text("customer_id is not null")
    )
    op.drop_column("orders", "location_id")
    op.drop_column("orders", "content_digest")
    op.drop_column("orders", "deleted_at")
    op.drop_column("orders", "fulfillment_status")
    op.drop_column("orders", "province")
    op.drop_column("orders", "staff_label")
    op.drop_column("orders", "customer_id")
    op.drop_column("orders", "shipping_taxes")
    op.drop_column("orders", "taxes_included")
    op.drop_column("orders", "discount_cents")
    op.drop_column("orders", "shipping_cents")
    op.drop_column("orders", "tax_cents")
    op.drop_column("orders", "subtotal_cents")
    op.drop_index("ix_order_refunds_refunded_at", table_name="order_refunds")
    op.drop_column("order_refunds", "shipping_tax_cents")
    op.drop_column("order_refunds", "shipping_cents")
    op.drop_column("order_refund_lines", "tax_cents")
    op.drop_column("order_refund_lines", "subtotal_cents")
    op.drop_column("order_lines", "staff_label")
    op.drop_column("order_lines", "product_id")
    op.drop_column("order_lines", "taxes")
    op.drop_column("order_lines", "is_gift_card")
    op.drop_column("order_lines", "is_taxable")
    op.drop_column("order_lines", "discount_cents")
    op.drop_column("inventory_levels", "disconnected_at")
    op.drop_column("connections", "refresh_expires_at")
    op.drop_column("connections", "token_expires_at")


def _drop_tables() -> None:
    op.drop_table("webhook_subscriptions")
    op.drop_table("storefronts")
    op.drop_table("pull_marks")
    op.drop_table("products")
    op.drop_table("privacy_requests")
    op.drop_table("period_corrections")
    op.drop_index(
        "ix_order_transactions_payment_ref",
        table_name="order_transactions",
        postgresql_where=sa.text("payment_ref <> ''"),
    )
    op.drop_index("ix_order_transactions_order", table_name="order_transactions")
    op.drop_table("order_transactions")
    op.drop_table("locations")
    op.drop_table("inventory_items")
    op.drop_index("ix_fulfillments_order", table_name="fulfillments")
    op.drop_table("fulfillments")
    op.drop_table("customers")
    op.drop_table("closed_periods")
    op.drop_table("found_breaks")
    op.drop_index("ix_break_corrections_day", table_name="break_corrections")
    op.drop_table("break_corrections")
    op.drop_index("ix_balance_entries_source", table_name="balance_entries")
    op.drop_index("ix_balance_entries_payout", table_name="balance_entries")
    op.drop_index("ix_balance_entries_created_at", table_name="balance_entries")
    op.drop_table("balance_entries")
