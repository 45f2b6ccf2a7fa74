"""When a message last got through each channel of the alerts"""

from alembic import op

revision = "s0008"
down_revision = "s0007"
branch_labels = None
depends_on = None

_STATEMENTS = """
create table alert_channels (
  name text not null, sent_at timestamptz not null, constraint pk_alert_channels primary key (name)
);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
