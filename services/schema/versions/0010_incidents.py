"""Incidents: who closed one and why. Connections: what alone is refused. Work: when it died"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column("incidents", sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("incidents", sa.Column("resolved_by", sa.Text(), nullable=True))
    op.add_column("incidents", sa.Column("resolved_reason", sa.Text(), nullable=True))
    op.add_column(
        "connections", sa.Column("resource", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.create_index(
        "ix_incidents_open",
        "incidents",
        ["severity", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_index(
        "ix_incidents_closed",
        "incidents",
        ["rule", "shop_id"],
        unique=False,
        postgresql_where=sa.text("resolved_by is not null"),
    )


def downgrade() -> None:
    op.drop_column("connections", "resource")
    op.drop_index("ix_incidents_closed", table_name="incidents")
    op.drop_index("ix_incidents_open", table_name="incidents")
    op.drop_column("incidents", "resolved_reason")
    op.drop_column("incidents", "resolved_by")
    op.drop_column("incidents", "resolved_at")
