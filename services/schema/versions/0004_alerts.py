"""Alerts: rules, channels and what happened to each incident; requests, statements and costs are measured"""

from alembic import op

revision = "s0004"
down_revision = "s0003"
branch_labels = None
depends_on = None

# An open incident that was mailed is not sent again. The rules read minutes of the last day, so older
# requests keep no status.
_STATEMENTS = """
alter table incidents
  add column notified_change text default '' not null, add column notified_at timestamptz,
  add column worsened_at timestamptz, add column reopened_at timestamptz,
  add column acknowledged_by text, add column acknowledged_at timestamptz,
  add column snoozed_until timestamptz, add column escalated_at timestamptz;
update incidents set notified_change = 'opened', notified_at = mailed_at
 where mailed_at is not null and status = 'open';
drop index ix_incidents_mailed;
alter table incidents drop column mailed_at;
create index ix_incidents_notified on incidents (notified_at)
  where notified_change not in ('', 'recovered');
create table incident_entries (
  id bigint generated always as identity, incident_id bigint not null, at timestamptz not null,
  kind text not null, by text default '' not null, text text default '' not null,
  detail jsonb default '{}' not null, constraint pk_incident_entries primary key (id)
);
create index ix_incident_entries_incident_id on incident_entries (incident_id, id);
create table audit_verifications (
  id bigint generated always as identity, shop_id integer, at timestamptz not null, findings jsonb not null,
  resolved_at timestamptz, open_until timestamptz, decided_by text, decided_reason text,
  constraint pk_audit_verifications primary key (id)
);
insert into audit_verifications (shop_id, at, findings)
select shop_id, updated_at, coalesce(detail -> 'findings', jsonb_build_array(summary)) from incidents
 where rule = 'audit_chain_failed' and status = 'open';
create table alert_states (
  rule text not null, shop_id integer not null, subject text not null, opened_at timestamptz,
  turned_at timestamptz, notified_value float8 default 0 not null, evaluated_at timestamptz not null,
  constraint pk_alert_states primary key (rule, shop_id, subject)
);
create table rule_evaluations (
  rule text not null, computed_at timestamptz not null, value float8 default 0 not null,
  shops_beyond integer default 0 not null, constraint pk_rule_evaluations primary key (rule)
);
create table rule_settings (
  rule text not null, shop_id integer not null, threshold float8 not null, by text not null,
  reason text not null, at timestamptz not null, constraint pk_rule_settings primary key (rule, shop_id)
);
create table alert_channels (
  name text not null, sent_at timestamptz, not_planned_at timestamptz,
  constraint pk_alert_channels primary key (name)
);
create table quiet_windows (
  id integer generated always as identity, shop_id integer, daily_from text default '' not null,
  daily_until text default '' not null, zone text default '' not null,
  begins_at timestamptz, ends_at timestamptz, reason text not null, created_by text not null,
  created_at timestamptz not null, constraint pk_quiet_windows primary key (id)
);

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
  request jsonb not null, constraint pk_request_errors primary key (request_id)
);
create index ix_request_errors_at on request_errors (at);
create table statement_stats (
  minute timestamptz not null, process text not null, statement text not null, count bigint not null,
  total_ms float8 not null, latency integer[] not null,
  constraint pk_statement_stats primary key (minute, process, statement)
);
create table statement_texts (
  statement text not null, text text not null, constraint pk_statement_texts primary key (statement)
);
create table table_sizes (
  day timestamptz not null, table_name text not null, row_count bigint not null, byte_count bigint not null,
  constraint pk_table_sizes primary key (day, table_name)
);
create table topic_backlogs (
  minute timestamptz not null, topic text not null, ready integer not null,
  constraint pk_topic_backlogs primary key (minute, topic)
);
create table topic_backoffs (
  topic text not null, factor float8 not null, created_at timestamptz not null, created_by text not null,
  reason text default '' not null, constraint pk_topic_backoffs primary key (topic)
);
alter table work_stats add column timings bigint[] default '{}' not null;

create table cost_references (
  shop_id integer not null, kind text not null, day date not null, source text not null,
  reference text not null, amount_micros bigint not null, currency text not null,
  recorded_at timestamptz not null,
  constraint pk_cost_references primary key (shop_id, kind, day, source, reference)
);
create index ix_cost_references_recorded_at on cost_references (recorded_at);
create table metered_costs (
  shop_id integer not null, kind text not null, day date not null, source text not null,
  currency text not null, amount_micros bigint not null,
  constraint pk_metered_costs primary key (shop_id, kind, day, source, currency)
);
alter table shop_config
  add column ai_cap text default '' not null, add column sms_budget text default '' not null,
  add column exchange_rates text default '' not null;
alter table pauses add column cost text;
alter table pauses drop constraint uq_pauses_scope;
alter table pauses add constraint uq_pauses_scope
  unique nulls not distinct (queue, topic, cost, shop_id);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
