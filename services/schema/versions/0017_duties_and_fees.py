"""Orders have duties within their prices, additional fees, and what is left of both."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column(
        "orders", sa.Column("duties_included", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    for table in ("orders", "order_refunds"):
        op.add_column(
            table,
            sa.Column("additional_fees_cents", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        )
    for name in ("current_duties_cents", "current_additional_fees_cents"):
        op.add_column("orders", sa.Column(name, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for name in ("current_additional_fees_cents", "current_duties_cents"):
        op.drop_column("orders", name)
    for table in ("order_refunds", "orders"):
        op.drop_column(table, "additional_fees_cents")
    op.drop_column("orders", "duties_included")
