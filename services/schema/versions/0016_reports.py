"""Scheduled reports, their runs, and notifications"""

from alembic import op

revision = "s0016"
down_revision = "s0015"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
create table notifications ( id bigint generated always as identity, shop_id integer not null, kind
  text not null, cause text not null, text text not null, at timestamptz not null, constraint
  pk_notifications primary key (id), constraint uq_notifications_cause unique (shop_id, kind,
  cause), constraint fk_notifications_shop_id_shops foreign key(shop_id) references shops (id) )
    """,
    """
create index ix_notifications_at on notifications (at)
    """,
    """
create index ix_notifications_shop_id on notifications (shop_id, at)
    """,
    """
create table reports ( id integer generated always as identity, shop_id integer not null, name text
  not null, kind text not null, covers text not null, schedule text not null, filters jsonb default
  '{}' not null, recipients text[] not null, formats text[] not null, overtime text not null,
  week_begins text not null, day_begins integer default 0 not null, created_at timestamptz not null,
  changed_at timestamptz not null, paused_at timestamptz, constraint pk_reports primary key (id),
  constraint ck_reports_day_begins check (day_begins between 0 and 23), constraint uq_reports_name
  unique (shop_id, name), constraint fk_reports_shop_id_shops foreign key(shop_id) references shops
  (id) )
    """,
    """
create table report_runs ( id bigint generated always as identity, report_id integer not null,
  shop_id integer not null, period text not null, due_at timestamptz not null, status text default
  'pending' not null, origin text not null, started_by text not null, request_id text default '' not
  null, stats jsonb default '{}' not null, mail_ids bigint[] default '{}' not null, work_id bigint,
  sent_at timestamptz, failed_at timestamptz, error_code text, error text, constraint pk_report_runs
  primary key (id), constraint ck_report_runs_status check (status in
  ('pending','mailed','sent','failed')), constraint uq_report_runs_period unique (report_id,
  period), constraint fk_report_runs_report_id_reports foreign key(report_id) references reports
  (id) on delete cascade )
    """,
    """
create index ix_report_runs_open on report_runs (due_at) where status <> 'sent'
    """,
    """
create index ix_report_runs_shop_id on report_runs (shop_id, due_at)
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
