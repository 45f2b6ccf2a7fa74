"""An index of the merchants without a page, which every evaluation of the rules counts"""

from alembic import op

revision = "s0027"
down_revision = "s0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "create index ix_merchants_without_page on merchants (shop_id, created_at)"
        " where page_id = '' and redacted_at is null"
    )


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
