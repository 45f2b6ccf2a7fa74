"""Metered costs, limits of a month, and pauses of work that causes a cost"""

from alembic import op

revision = "s0009"
down_revision = "s0008"
branch_labels = None
depends_on = None

_STATEMENTS = """
create table metered_costs (
  shop_id integer not null, kind text not null, day date not null, source text not null,
  reference text not null, amount_micros bigint not null, currency text not null,
  recorded_at timestamptz not null,
  constraint pk_metered_costs primary key (shop_id, kind, day, source, reference)
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
