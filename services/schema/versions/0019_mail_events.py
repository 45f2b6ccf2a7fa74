"""What mail services reported about mails"""

from alembic import op

revision = "s0019"
down_revision = "s0018"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
create table mail_events ( id bigint generated always as identity, shop_id integer, provider text
  not null, event_id text not null, kind text not null, at timestamptz not null, mail_id bigint,
  address_hash text default '' not null, detail text default '' not null, constraint pk_mail_events
  primary key (id), constraint uq_mail_events_event unique nulls not distinct (provider, event_id,
  shop_id) )
    """,
    "create index ix_mail_events_mail_id on mail_events (mail_id) where mail_id is not null",
    "create index ix_mail_events_soft on mail_events (address_hash) where address_hash <> ''",
    """
alter table mail_outbox add column delivered_at timestamptz, add column bounced_at timestamptz,
  add column complained_at timestamptz
    """,
    "create index ix_mail_outbox_provider_id on mail_outbox (provider_id) where provider_id <> ''",
    "create index ix_mail_outbox_bounced_at on mail_outbox (bounced_at) where bounced_at is not null",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
