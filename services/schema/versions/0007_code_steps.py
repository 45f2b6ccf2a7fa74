"""The one-time code that each person used last"""

from alembic import op

revision = "s0007"
down_revision = "s0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table users add column last_code_step bigint")


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
