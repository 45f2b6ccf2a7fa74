"""Topics whose retries wait longer, set by a person"""

from alembic import op

revision = "s0013"
down_revision = "s0012"
branch_labels = None
depends_on = None

_STATEMENTS = """
create table topic_backoffs (
  topic text not null, factor float8 not null, created_at timestamptz not null, created_by text not null,
  reason text default '' not null, constraint pk_topic_backoffs primary key (topic)
);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
