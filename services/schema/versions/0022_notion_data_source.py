"""The data source at Notion of a shop"""

from alembic import op

revision = "s0022"
down_revision = "s0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table shop_config add column notion_data_source text default '' not null")


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
