"""Pauses that end by themselves, and an index of failed runs for what /health counts"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column("pauses", sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_job_runs_failed",
        "job_runs",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("status = 'failed'"),
    )


def downgrade() -> None:
    op.drop_index("ix_job_runs_failed", table_name="job_runs")
    op.drop_column("pauses", "ends_at")
