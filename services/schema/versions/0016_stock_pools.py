"""Pools: goods that several shops sell from one shelf, each with one figure for all of them."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_COLUMNS: tuple[sa.Column[Any], ...] = (
    sa.Column("pool", sa.Text(), nullable=True),
    sa.Column("pool_sku", sa.Text(), nullable=True),
    sa.Column("known_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("doubts", sa.Integer(), server_default=sa.text("0"), nullable=False),
)


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.create_table(
        "stock_pools",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("safety_buffer", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.create_table(
        "stock_pool_items",
        sa.Column("pool", sa.Text(), sa.ForeignKey("stock_pools.name"), primary_key=True),
        sa.Column("sku", sa.Text(), primary_key=True),
        sa.Column("available", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
    )
    for column in _COLUMNS:
        op.add_column("inventory_levels", column)
    op.create_index(
        "ix_inventory_levels_pool",
        "inventory_levels",
        ["pool", "pool_sku"],
        unique=False,
        postgresql_where=sa.text("pool is not null"),
    )


def downgrade() -> None:
    op.execute("update inventory_levels set available = shopify_available where pool is not null")
    op.execute("update shop_config set stock_owner = 'shopify' where stock_owner like 'pool:%'")
    op.drop_index("ix_inventory_levels_pool", table_name="inventory_levels")
    for column in reversed(_COLUMNS):
        op.drop_column("inventory_levels", column.name)
    op.drop_table("stock_pool_items")
    op.drop_table("stock_pools")
