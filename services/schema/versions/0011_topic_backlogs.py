"""Ready work by topic and minute, which shows whether a backlog grows"""

from alembic import op

revision = "s0011"
down_revision = "s0010"
branch_labels = None
depends_on = None

_STATEMENTS = """
create table topic_backlogs (
  minute timestamptz not null, topic text not null, ready integer not null,
  constraint pk_topic_backlogs primary key (minute, topic)
);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
