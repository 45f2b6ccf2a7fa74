"""The spine: ledger, shops, storefront, books, conversations, jobs, audit, incidents"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock gives up, rather than queueing every query behind it.
    op.execute("set local lock_timeout = '5s'")
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("staff_label", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
        sa.UniqueConstraint("shop_id", "seq", name="uq_audit_events_seq", postgresql_nulls_not_distinct=True),
    )
    op.create_index("ix_audit_events_at", "audit_events", ["at"], unique=False)
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heartbeats")),
    )
    op.create_table(
        "inbound_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("delivery_key", sa.Text(), nullable=False),
        sa.Column(
            "headers", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duplicate_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("origin", sa.Text(), server_default=sa.text("'webhook'"), nullable=False),
        sa.Column("request_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("replay_of", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbound_events")),
        sa.UniqueConstraint(
            "shop_id", "provider", "topic", "delivery_key", name="uq_inbound_events_delivery"
        ),
    )
    op.create_index("ix_inbound_events_received_at", "inbound_events", ["received_at"], unique=False)
    op.create_table(
        "incidents",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=True),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column(
            "detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
        sa.UniqueConstraint(
            "shop_id", "rule", "period", name="uq_incidents_identity", postgresql_nulls_not_distinct=True
        ),
    )
    op.create_table(
        "interactions",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("participants", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "provider_id", name=op.f("pk_interactions")),
    )
    op.create_index("ix_interactions_occurred_at", "interactions", ["shop_id", "occurred_at"], unique=False)
    op.create_table(
        "inventory_levels",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("inventory_item_id", sa.BigInteger(), nullable=False),
        sa.Column("location_id", sa.BigInteger(), nullable=False),
        sa.Column("sku", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("available", sa.Integer(), nullable=False),
        sa.Column("reorder_point", sa.Integer(), nullable=True),
        sa.Column("observed_available", sa.Integer(), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shopify_available", sa.Integer(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "shop_id", "inventory_item_id", "location_id", name=op.f("pk_inventory_levels")
        ),
    )
    op.create_index("ix_inventory_levels_sku", "inventory_levels", ["shop_id", "sku"], unique=False)
    op.create_table(
        "job_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=True),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "stats", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_runs")),
        sa.UniqueConstraint(
            "job", "shop_id", "period", name="uq_job_runs_period", postgresql_nulls_not_distinct=True
        ),
    )
    op.create_table(
        "order_lines",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("order_gid", sa.Text(), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("refunded_quantity", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("price_cents", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "order_gid", "line_id", name=op.f("pk_order_lines")),
    )
    op.create_table(
        "order_refund_lines",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("refund_line_id", sa.BigInteger(), nullable=False),
        sa.Column("refund_id", sa.BigInteger(), nullable=False),
        sa.Column("order_gid", sa.Text(), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "refund_line_id", name=op.f("pk_order_refund_lines")),
    )
    op.create_index(
        "ix_order_refund_lines_order", "order_refund_lines", ["shop_id", "order_gid"], unique=False
    )
    op.create_table(
        "order_refunds",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("refund_id", sa.BigInteger(), nullable=False),
        sa.Column("order_gid", sa.Text(), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("refunded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "refund_id", name=op.f("pk_order_refunds")),
    )
    op.create_index("ix_order_refunds_order", "order_refunds", ["shop_id", "order_gid"], unique=False)
    op.create_table(
        "orders",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("order_gid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), server_default=sa.text("'Filling'"), nullable=False),
        sa.Column("total_cents", sa.BigInteger(), nullable=False),
        sa.Column("refunded_cents", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("financial_status", sa.Text(), nullable=False),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "order_gid", name=op.f("pk_orders")),
    )
    op.create_table(
        "pauses",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("queue", sa.Text(), nullable=True),
        sa.Column("topic", sa.Text(), nullable=True),
        sa.Column("shop_id", sa.Integer(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("rate_per_second", sa.Double(), nullable=True),
        sa.Column("drain_tokens", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("drained_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint("mode in ('hold','refuse','drain')", name=op.f("ck_pauses_mode")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pauses")),
        sa.UniqueConstraint(
            "queue", "topic", "shop_id", name="uq_pauses_scope", postgresql_nulls_not_distinct=True
        ),
    )
    op.create_table(
        "rate_limits",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("available", sa.Double(), nullable=False),
        sa.Column("maximum", sa.Double(), nullable=False),
        sa.Column("restore_per_second", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "provider", name=op.f("pk_rate_limits")),
    )
    op.create_table(
        "reconciliation_breaks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("ours", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("theirs", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciliation_breaks")),
        sa.UniqueConstraint(
            "shop_id", "day", "kind", "provider_id", name="uq_reconciliation_breaks_identity"
        ),
    )
    op.create_table(
        "request_counts",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shop", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "shop", "provider", "outcome", name=op.f("pk_request_counts")),
    )
    op.create_table(
        "shops",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shops")),
        sa.UniqueConstraint("slug", name=op.f("uq_shops_slug")),
    )
    op.create_table(
        "stock_movements",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("delta", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "source", name=op.f("pk_stock_movements")),
    )
    op.create_index("ix_stock_movements_sku_at", "stock_movements", ["shop_id", "sku", "at"], unique=False)
    op.create_table(
        "transactions",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("refunded_cents", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("version_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("shop_id", "provider_id", name=op.f("pk_transactions")),
    )
    op.create_index("ix_transactions_occurred_at", "transactions", ["shop_id", "occurred_at"], unique=False)
    op.create_table(
        "variants",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("inventory_item_id", sa.BigInteger(), nullable=False),
        sa.Column("variant_id", sa.BigInteger(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "inventory_item_id", name=op.f("pk_variants")),
    )
    op.create_index("ix_variants_sku", "variants", ["shop_id", "sku"], unique=False)
    op.create_table(
        "work_queue",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column(
            "payload", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("retry_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("locked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("locked_by", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.Column("origin", sa.Text(), server_default=sa.text("'webhook'"), nullable=False),
        sa.Column("request_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dispatch_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status in ('pending','done','error','dead','discarded')", name=op.f("ck_work_queue_status")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_queue")),
    )
    op.create_index(
        "ix_work_queue_dead",
        "work_queue",
        ["topic", "shop_id"],
        unique=False,
        postgresql_where=sa.text("status in ('dead','discarded')"),
    )
    op.create_index(
        "ix_work_queue_event_id",
        "work_queue",
        ["event_id"],
        unique=False,
        postgresql_where=sa.text("event_id is not null"),
    )
    op.create_index(
        "ix_work_queue_locked",
        "work_queue",
        ["topic", "key"],
        unique=False,
        postgresql_where=sa.text("status in ('pending','error') and locked_at is not null"),
    )
    op.create_index(
        "ix_work_queue_ready",
        "work_queue",
        ["topic", "shop_id", sa.literal_column("coalesce(next_retry_at, created_at)"), "id"],
        unique=False,
        postgresql_where=sa.text("status in ('pending','error') and locked_at is null"),
    )
    op.create_table(
        "work_stats",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("retried", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("dead", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("minute", "topic", "worker", name=op.f("pk_work_stats")),
    )
    op.create_table(
        "audit_mutations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("row_id", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(
            ["event_id"], ["audit_events.id"], name=op.f("fk_audit_mutations_event_id_audit_events")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_mutations")),
    )
    op.create_index(op.f("ix_audit_mutations_event_id"), "audit_mutations", ["event_id"], unique=False)
    op.create_table(
        "shop_config",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("owner_email", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("accountant_email", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("shopify_domain", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("stock_location_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("last_daily_run", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "settings",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_shop_config_shop_id_shops")),
        sa.PrimaryKeyConstraint("shop_id", name=op.f("pk_shop_config")),
    )
    op.create_table(
        "shop_secrets",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_shop_secrets_shop_id_shops")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shop_secrets")),
    )
    op.create_index("ix_shop_secrets_shop_id_name", "shop_secrets", ["shop_id", "name"], unique=False)
    # Bodies are kept as they came: compressing 4 KB of JSON costs more than the insert around it.
    op.execute("alter table inbound_events alter column body set storage external")
    op.execute("alter table inbound_events set (toast_tuple_target = 8160)")
    # Rows of the queue live hard and die young; vacuum must keep up with them.
    op.execute(
        "alter table work_queue set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, "
        "autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)"
    )


def downgrade() -> None:
    op.drop_index("ix_shop_secrets_shop_id_name", table_name="shop_secrets")
    op.drop_table("shop_secrets")
    op.drop_table("shop_config")
    op.drop_index(op.f("ix_audit_mutations_event_id"), table_name="audit_mutations")
    op.drop_table("audit_mutations")
    op.drop_table("work_stats")
    op.drop_index(
        "ix_work_queue_ready",
        table_name="work_queue",
        postgresql_where=sa.text("status in ('pending','error') and locked_at is null"),
    )
    op.drop_index(
        "ix_work_queue_locked",
        table_name="work_queue",
        postgresql_where=sa.text("status in ('pending','error') and locked_at is not null"),
    )
    op.drop_index(
        "ix_work_queue_event_id", table_name="work_queue", postgresql_where=sa.text("event_id is not null")
    )
    op.drop_index(
        "ix_work_queue_dead",
        table_name="work_queue",
        postgresql_where=sa.text("status in ('dead','discarded')"),
    )
    op.drop_table("work_queue")
    op.drop_index("ix_variants_sku", table_name="variants")
    op.drop_table("variants")
    op.drop_index("ix_transactions_occurred_at", table_name="transactions")
    op.drop_table("transactions")
    op.drop_index("ix_stock_movements_sku_at", table_name="stock_movements")
    op.drop_table("stock_movements")
    op.drop_table("shops")
    op.drop_table("request_counts")
    op.drop_table("reconciliation_breaks")
    op.drop_table("rate_limits")
    op.drop_table("pauses")
    op.drop_table("orders")
    op.drop_index("ix_order_refunds_order", table_name="order_refunds")
    op.drop_table("order_refunds")
    op.drop_index("ix_order_refund_lines_order", table_name="order_refund_lines")
    op.drop_table("order_refund_lines")
    op.drop_table("order_lines")
    op.drop_table("job_runs")
    op.drop_index("ix_inventory_levels_sku", table_name="inventory_levels")
    op.drop_table("inventory_levels")
    op.drop_index("ix_interactions_occurred_at", table_name="interactions")
    op.drop_table("interactions")
    op.drop_table("incidents")
    op.drop_index("ix_inbound_events_received_at", table_name="inbound_events")
    op.drop_table("inbound_events")
    op.drop_table("heartbeats")
    op.drop_index("ix_audit_events_at", table_name="audit_events")
    op.drop_table("audit_events")
