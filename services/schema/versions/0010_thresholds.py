"""Thresholds of rules for one shop or the fleet"""

from alembic import op

revision = "s0010"
down_revision = "s0009"
branch_labels = None
depends_on = None

_STATEMENTS = """
create table rule_settings (
  rule text not null, shop_id integer not null, threshold float8 not null, by text not null,
  reason text not null, at timestamptz not null, constraint pk_rule_settings primary key (rule, shop_id)
);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
