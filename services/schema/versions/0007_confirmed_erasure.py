"""Erasure of a shop needs a confirmation"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column("privacy_requests", sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "privacy_requests", sa.Column("confirmed_by", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.drop_column("order_notices", "link_requested_at")


def downgrade() -> None:
    op.add_column("order_notices", sa.Column("link_requested_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_column("privacy_requests", "confirmed_by")
    op.drop_column("privacy_requests", "confirmed_at")
