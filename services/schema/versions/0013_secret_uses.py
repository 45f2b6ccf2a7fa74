"""When a secret was last used"""

from alembic import op

revision = "s0013"
down_revision = "s0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table shop_secrets add column last_used_at timestamptz")


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
