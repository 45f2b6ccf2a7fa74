"""States of rules that are evaluated, and what happened to each incident"""

from alembic import op

revision = "s0004"
down_revision = "s0003"
branch_labels = None
depends_on = None

_STATEMENTS = """
alter table incidents
  add column notified_change text default '' not null, add column notified_at timestamptz,
  add column worsened_at timestamptz, add column reopened_at timestamptz,
  add column acknowledged_by text, add column acknowledged_at timestamptz,
  add column snoozed_until timestamptz;
create index ix_incidents_notified on incidents (notified_at)
  where notified_change not in ('', 'recovered');
create table alert_states (
  rule text not null, shop_id integer not null, subject text not null, opened_at timestamptz,
  turned_at timestamptz, notified_value float8 default 0 not null, evaluated_at timestamptz not null,
  constraint pk_alert_states primary key (rule, shop_id, subject)
);
create table rule_evaluations (
  rule text not null, computed_at timestamptz not null, constraint pk_rule_evaluations primary key (rule)
);
create table incident_entries (
  id bigint generated always as identity, incident_id bigint not null, at timestamptz not null,
  kind text not null, by text default '' not null, text text default '' not null,
  detail jsonb default '{}' not null, constraint pk_incident_entries primary key (id)
);
create index ix_incident_entries_incident_id on incident_entries (incident_id, id);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
