"""Times in which the channels get nothing; incidents that were escalated"""

from alembic import op

revision = "s0012"
down_revision = "s0011"
branch_labels = None
depends_on = None

_STATEMENTS = """
alter table incidents add column escalated_at timestamptz;
create table quiet_windows (
  id integer generated always as identity, shop_id integer, daily_from text default '' not null,
  daily_until text default '' not null, zone text default '' not null,
  begins_at timestamptz, ends_at timestamptz, reason text not null, created_by text not null,
  created_at timestamptz not null, constraint pk_quiet_windows primary key (id)
);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
