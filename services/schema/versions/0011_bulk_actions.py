"""Actions on all rows of a list that match"""

from alembic import op

revision = "s0011"
down_revision = "s0010"
branch_labels = None
depends_on = None

_STATEMENT = """
create table bulk_actions (
  id bigint generated always as identity, list text not null, action text not null, query jsonb not null,
  row_ids bigint[] not null, shop_ids integer[] not null, total_count integer not null, done_count integer
  default 0 not null, changed_count integer default 0 not null, skipped_count integer default 0 not null,
  skipped jsonb default '{}' not null, status text not null, reason text not null, started_by text not null,
  user_id integer not null, request_key text not null, started_at timestamptz not null, ended_at timestamptz,
  error text default '' not null, constraint pk_bulk_actions primary key (id),
  constraint ck_bulk_actions_status check (status in ('running', 'done', 'stopped')),
  constraint uq_bulk_actions_request_key unique (user_id, request_key)
)
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENT, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
