"""What orders and refunds are made of: tips, duties, rounding, test orders, states of a refund."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def _cents(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def _columns() -> list[tuple[str, sa.Column[Any]]]:
    return [
        ("orders", _flag("is_test")),
        ("orders", _flag("is_tax_exempt")),
        *(("orders", _cents(f"{part}_cents")) for part in ("tip", "duties", "rounding", "refund_rounding")),
        ("order_lines", _flag("is_tip")),
        ("order_lines", sa.Column("current_quantity", sa.Integer(), nullable=True)),
        (
            "order_refunds",
            sa.Column("status", sa.Text(), server_default=sa.text("'success'"), nullable=False),
        ),
        *(
            ("order_refunds", _cents(f"{part}_cents"))
            for part in ("duties", "tip", "adjustment", "adjustment_tax", "unexplained", "rounding")
        ),
        ("order_refunds", sa.Column("transactions", postgresql.JSONB(), nullable=True)),
        ("order_transactions", _flag("is_test")),
        ("order_notices", sa.Column("doubts", sa.Text(), server_default=sa.text("''"), nullable=False)),
    ]


# What a refund that names no goods and no shipping gave back was a gesture: Shopify calls it a discrepancy.
_GESTURES = """
update order_refunds r set adjustment_cents = -r.amount_cents
 where r.amount_cents > 0 and r.shipping_cents = 0 and r.shipping_tax_cents = 0
   and not exists (select from order_refund_lines l where l.shop_id = r.shop_id and l.refund_id = r.refund_id)
"""


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    for table, column in _columns():
        op.add_column(table, column)
    op.execute(_GESTURES)


def downgrade() -> None:
    for table, column in reversed(_columns()):
        op.drop_column(table, column.name)
