"""Who owns a shop's stock figures, what was counted here, and which variant and location a movement is of.

Every shop starts with the owner ``shopify``: its levels hold what Shopify last reported.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("shop_config", sa.Column("stock_owner", sa.Text(), server_default=sa.text("'shopify'"), nullable=False)),
    ("inventory_levels", sa.Column("counted_available", sa.Integer(), nullable=True)),
    ("inventory_levels", sa.Column("counted_at", sa.DateTime(timezone=True), nullable=True)),
    ("stock_movements", sa.Column("variant_id", sa.BigInteger(), nullable=True)),
    ("stock_movements", sa.Column("location_id", sa.BigInteger(), nullable=True)),
    ("stock_movements", sa.Column("order_id", sa.BigInteger(), nullable=True)),
)


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    for table, column in _COLUMNS:
        op.add_column(table, column)
    op.create_index("ix_variants_variant", "variants", ["shop_id", "variant_id"], unique=False)
    op.create_index(
        "ix_stock_movements_variant_at",
        "stock_movements",
        ["shop_id", "variant_id", "at"],
        unique=False,
        postgresql_where=sa.text("variant_id is not null"),
    )
    op.create_index(
        "ix_fulfillment_orders_order",
        "fulfillment_orders",
        ["shop_id", "order_gid"],
        unique=False,
        postgresql_where=sa.text("order_gid <> ''"),
    )
    op.execute(
        "update inventory_levels set available = coalesce(shopify_available, observed_available) "
        "where available <> coalesce(shopify_available, observed_available)"
    )


def downgrade() -> None:
    op.drop_index("ix_fulfillment_orders_order", table_name="fulfillment_orders")
    op.drop_index("ix_stock_movements_variant_at", table_name="stock_movements")
    op.drop_index("ix_variants_variant", table_name="variants")
    for table, column in reversed(_COLUMNS):
        op.drop_column(table, column.name)
