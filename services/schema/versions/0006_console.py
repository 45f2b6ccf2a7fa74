"""The newest mails of a shop, for its page in the console"""

from alembic import op

revision = "s0006"
down_revision = "s0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index ix_mail_outbox_shop_id on mail_outbox (shop_id, id)")


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
