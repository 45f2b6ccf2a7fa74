"""What each rule last computed: the sum of its figures, and the shops beyond its threshold"""

from alembic import op

revision = "s0005"
down_revision = "s0004"
branch_labels = None
depends_on = None

_STATEMENTS = """
alter table rule_evaluations
  add column value float8 default 0 not null, add column shops_beyond integer default 0 not null;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
