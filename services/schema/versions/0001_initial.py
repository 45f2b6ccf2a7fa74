"""Initial schema: all tables (`initial_tables.sql`) and the audit chain (`initial_audit.sql`)"""

from pathlib import Path

from alembic import op

revision = "s0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("initial_tables.sql", "initial_audit.sql"):
        statements = Path(__file__).with_name(name).read_text()
        op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("there is no older schema: drop the database instead")
