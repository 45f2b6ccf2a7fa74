"""Products have their type and tags: a shop names PST-exempt goods by these."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    for name in ("product_type", "tags"):
        op.add_column("products", sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False))


def downgrade() -> None:
    for name in ("tags", "product_type"):
        op.drop_column("products", name)
