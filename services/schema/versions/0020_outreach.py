"""People, consents and sends of reminders and sequences; the sender in commercial mail"""

from alembic import op

revision = "s0020"
down_revision = "s0019"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
alter table shop_config add column postal_address text default '' not null,   add column
  mail_contact text default '' not null, add column mails_per_day text default '1' not null
    """,
    """
create table outreach_runs ( run_id bigint not null, series text not null, work_ids bigint[] default
  '{}' not null, not_ready integer default 0 not null, skipped jsonb default '{}' not null,
  started_at timestamptz not null, ended_at timestamptz, followed_at timestamptz, constraint
  pk_outreach_runs primary key (run_id) )
    """,
    """
create index ix_outreach_runs_started_at on outreach_runs (started_at)
    """,
    """
create table outreach_people ( id bigint generated always as identity, shop_id integer not null,
  external_id text not null, email text not null, name text default '' not null, timezone text
  default '' not null, signed_up_at timestamptz, last_active_at timestamptz, link_key uuid default
  gen_random_uuid() not null, created_at timestamptz not null, changed_at timestamptz not null,
  constraint pk_outreach_people primary key (id), constraint uq_outreach_people_external_id unique
  (shop_id, external_id), constraint fk_outreach_people_shop_id_shops foreign key(shop_id)
  references shops (id) )
    """,
    """
create index ix_outreach_people_email on outreach_people (shop_id, email)
    """,
    """
create index ix_outreach_people_shop_id on outreach_people (shop_id, id)
    """,
    """
create table outreach_texts ( shop_id integer not null, series text not null, step text not null,
  subject text not null, body text not null, changed_at timestamptz not null, constraint
  pk_outreach_texts primary key (shop_id, series, step), constraint fk_outreach_texts_shop_id_shops
  foreign key(shop_id) references shops (id) )
    """,
    """
create table outreach_consents ( id bigint generated always as identity, person_id bigint not null,
  shop_id integer not null, basis text not null, source text not null, given_at timestamptz not
  null, created_at timestamptz not null, expires_at timestamptz, withdrawn_at timestamptz,
  withdrawn_by text, constraint pk_outreach_consents primary key (id), constraint
  ck_outreach_consents_basis check (basis in ('express','implied')), constraint
  ck_outreach_consents_expiry check (basis = 'express' or expires_at is not null), constraint
  uq_outreach_consents_given unique (person_id, basis, given_at), constraint
  fk_outreach_consents_person_id_outreach_people foreign key(person_id) references outreach_people
  (id) on delete cascade )
    """,
    """
create index ix_outreach_consents_shop_id on outreach_consents (shop_id, id)
    """,
    """
create table outreach_sends ( id bigint generated always as identity, person_id bigint not null,
  shop_id integer not null, series text not null, step text not null, run_id bigint not null,
  local_day date not null, status text not null, reason text default '' not null, mail_id bigint,
  starts_at timestamptz, created_at timestamptz not null, constraint pk_outreach_sends primary key
  (id), constraint ck_outreach_sends_status check (status in ('mailed','sent','failed','skipped')),
  constraint uq_outreach_sends_step unique (person_id, series, step), constraint
  fk_outreach_sends_person_id_outreach_people foreign key(person_id) references outreach_people (id)
  on delete cascade )
    """,
    """
create index ix_outreach_sends_open on outreach_sends (run_id) where status in ('mailed','failed')
    """,
    """
create index ix_outreach_sends_run_id on outreach_sends (run_id)
    """,
    """
create index ix_outreach_sends_shop_id on outreach_sends (shop_id, id)
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
