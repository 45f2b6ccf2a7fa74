"""Archived events with their keys, totals of the figures per minute, mails without their text"""

from alembic import op

revision = "s0002"
down_revision = "s0001"
branch_labels = None
depends_on = None

_STATEMENTS = """
create table archive_keys (
  id bigint generated always as identity, shop_id integer not null, subject bytea, secret bytea,
  created_at timestamptz not null, destroyed_at timestamptz, constraint pk_archive_keys primary key (id)
);
create unique index uq_archive_keys_subject on archive_keys (shop_id, subject) where subject is not null;
create table event_archives (
  id bigint generated always as identity, shop_id integer not null, object_key text not null,
  planned_at timestamptz not null, stored_at timestamptz, first_received_at timestamptz,
  last_received_at timestamptz, object_sha256 text default '' not null,
  object_bytes bigint default 0 not null,
  event_ids bigint[] default '{}' not null, key_ids bigint[] default '{}' not null,
  constraint pk_event_archives primary key (id)
);
create index ix_event_archives_received_at on event_archives (shop_id, last_received_at);
create index ix_event_archives_planned on event_archives (id) where stored_at is null;
alter table mail_outbox add column emptied_at timestamptz;
drop index ix_mail_outbox_created_at;
create index ix_mail_outbox_created_at on mail_outbox (created_at) where emptied_at is null;
alter table work_stats alter column done type bigint, alter column retried type bigint,
  alter column dead type bigint;
insert into work_stats (minute, topic, worker, done, retried, dead, last_at)
select '1970-01-01Z', topic, '', sum(done), sum(retried), sum(dead), max(last_at)
  from work_stats group by topic;
insert into request_counts (minute, shop, provider, outcome, count)
select '1970-01-01Z', '', provider, outcome, sum(count) from request_counts group by provider, outcome;
alter table inbound_events
  set (autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);
alter table work_stats set (autovacuum_vacuum_scale_factor = 0.05);
alter table request_counts set (autovacuum_vacuum_scale_factor = 0.05);
alter table job_runs set (autovacuum_vacuum_scale_factor = 0.05);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
