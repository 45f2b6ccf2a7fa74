"""The contact of a merchant: its time, and the addresses that do not come from it"""

from alembic import op

revision = "s0024"
down_revision = "s0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "alter table merchants add column contact_at timestamptz, "
        "add column used_addresses text[] default '{}' not null"
    )
    op.execute("update merchants set used_addresses = phones || mails")


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
