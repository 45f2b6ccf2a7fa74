"""Durations of statements, and the size of tables by day"""

from alembic import op

revision = "s0014"
down_revision = "s0013"
branch_labels = None
depends_on = None

_STATEMENTS = """
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
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
