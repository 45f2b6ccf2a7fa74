"""The addresses that send webhooks with a wrong signature"""

from alembic import op

revision = "s0015"
down_revision = "s0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
create table webhook_senders (
  hour timestamptz not null,
  shop text not null,
  provider text not null,
  address text not null,
  count bigint not null,
  constraint pk_webhook_senders primary key (hour, shop, provider, address)
)""")


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
