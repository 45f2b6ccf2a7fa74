"""Texts of mails are stored out of line"""

from alembic import op

revision = "s0021"
down_revision = "s0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table mail_outbox set (toast_tuple_target = 256)")


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
