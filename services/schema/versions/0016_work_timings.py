"""Histograms of how long work waited, ran, and took from its webhook to its effect"""

from alembic import op

revision = "s0016"
down_revision = "s0015"
branch_labels = None
depends_on = None

_STATEMENTS = "alter table work_stats add column timings bigint[] default '{}' not null"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
