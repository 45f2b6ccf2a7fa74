"""The domains a shop had before, and since when its signed webhooks are refused."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column(
        "shop_config",
        sa.Column(
            "former_shopify_domains",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.create_table(
        "webhook_refusals",
        sa.Column("shop_id", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "outcome", name=op.f("pk_webhook_refusals")),
    )


def downgrade() -> None:
    op.drop_table("webhook_refusals")
    op.drop_column("shop_config", "former_shopify_domains")
