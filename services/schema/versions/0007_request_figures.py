"""Requests by route, status and latency, and a row for each that failed"""

from alembic import op

revision = "s0007"
down_revision = "s0006"
branch_labels = None
depends_on = None

# The rules read minutes of the last day, so older ones keep no status. No request of a page was counted.
_STATEMENTS = """
alter table request_counts
  add column route text default '' not null, add column status integer default 0 not null,
  add column latency integer[] default '{}' not null;
alter table request_counts alter column route drop default, alter column status drop default;
alter table request_counts drop constraint pk_request_counts;
update request_counts
   set route = '/webhooks/' || provider,
       status = case outcome when 'unavailable' then 503 when 'paused' then 503 when 'accepted' then 200
                             when 'duplicate' then 200 when 'ignored' then 200 else 400 end
 where minute > now() - interval '2 days';
alter table request_counts
  add constraint pk_request_counts primary key (minute, shop, provider, outcome, route, status);
create table request_errors (
  request_id text not null, at timestamptz not null, shop_id integer, route text not null,
  status integer not null, error_class text not null, reason text not null, staff_label text not null,
  asked jsonb not null, constraint pk_request_errors primary key (request_id)
);
create index ix_request_errors_at on request_errors (at);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
