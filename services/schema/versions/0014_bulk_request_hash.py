"""A hash of the filters of a bulk action"""

from alembic import op

revision = "s0014"
down_revision = "s0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table bulk_actions add column request_hash text default '' not null")


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
