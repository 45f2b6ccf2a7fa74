"""Addresses that get no mail, and which mails are commercial"""

from alembic import op

revision = "s0017"
down_revision = "s0016"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
create table mail_suppressions ( id bigint generated always as identity, shop_id integer, address
  text not null, reason text not null, source text not null, mail_id bigint, created_at timestamptz
  default now() not null, constraint pk_mail_suppressions primary key (id), constraint
  ck_mail_suppressions_reason check (reason in
  ('bounced','complained','unsubscribed','blocked_by_person')), constraint
  uq_mail_suppressions_address unique nulls not distinct (address, shop_id, reason) )
    """,
    "alter table mail_outbox add column is_commercial boolean default false not null",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
