"""Orders have additional fees, duties that are left and conversions; a refund is known within its order."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_CENTS = (
    ("orders", "additional_fees_cents"),
    ("orders", "conversion_cents"),
    ("order_refunds", "additional_fees_cents"),
)

_KEYS = {
    "order_refunds": ["refund_id"],
    "order_refund_lines": ["refund_id", "refund_line_id"],
}
"""What a row is known by within its shop and order. The keys' own index finds the rows of an order."""


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column(
        "orders", sa.Column("duties_included", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    for table, name in _CENTS:
        op.add_column(table, sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    for name in ("current_duties_cents", "current_additional_fees_cents"):
        op.add_column("orders", sa.Column(name, sa.BigInteger(), nullable=True))
    for table, columns in _KEYS.items():
        op.drop_constraint(f"pk_{table}", table)
        op.create_primary_key(f"pk_{table}", table, ["shop_id", "order_gid", *columns])
        op.drop_index(f"ix_{table}_order", table_name=table)


def downgrade() -> None:
    for table, columns in _KEYS.items():
        op.create_index(f"ix_{table}_order", table, ["shop_id", "order_gid"])
        op.drop_constraint(f"pk_{table}", table)
        op.create_primary_key(f"pk_{table}", table, ["shop_id", columns[-1]])
    for name in ("current_additional_fees_cents", "current_duties_cents"):
        op.drop_column("orders", name)
    for table, name in reversed(_CENTS):
        op.drop_column(table, name)
    op.drop_column("orders", "duties_included")
