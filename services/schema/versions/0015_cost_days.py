"""Costs have a total for each day, so that a month is read from few rows"""

from alembic import op

revision = "s0015"
down_revision = "s0014"
branch_labels = None
depends_on = None

_STATEMENTS = """
alter table metered_costs rename to cost_references;
alter table cost_references rename constraint pk_metered_costs to pk_cost_references;
create index ix_cost_references_recorded_at on cost_references (recorded_at);
create table metered_costs (
  shop_id integer not null, kind text not null, day date not null, source text not null,
  currency text not null, amount_micros bigint not null,
  constraint pk_metered_costs primary key (shop_id, kind, day, source, currency)
);
insert into metered_costs
select shop_id, kind, day, source, currency, sum(amount_micros) from cost_references group by 1, 2, 3, 4, 5;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
