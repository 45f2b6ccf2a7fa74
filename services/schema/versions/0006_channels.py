"""Mail is a channel of the alerts: incidents have no state of their own for it"""

from alembic import op

revision = "s0006"
down_revision = "s0005"
branch_labels = None
depends_on = None

# An open incident that was mailed is not sent again.
_STATEMENTS = """
update incidents set notified_change = 'opened', notified_at = mailed_at
 where mailed_at is not null and notified_change = '' and status = 'open';
drop index ix_incidents_mailed;
alter table incidents drop column mailed_at;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
