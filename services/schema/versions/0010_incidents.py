"""Incidents: who closed one, why, when it was mailed. Connections: what is refused. Work: when it died"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("incidents", sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True)),
    ("incidents", sa.Column("resolved_by", sa.Text(), nullable=True)),
    ("incidents", sa.Column("resolved_reason", sa.Text(), nullable=True)),
    ("incidents", sa.Column("mailed_at", sa.DateTime(timezone=True), nullable=True)),
    ("connections", sa.Column("resource", sa.Text(), server_default=sa.text("''"), nullable=False)),
    ("work_queue", sa.Column("died_at", sa.DateTime(timezone=True), nullable=True)),
)

_INDEXES = (
    ("ix_incidents_open", "incidents", ["severity", "id"], "status = 'open'"),
    ("ix_incidents_closed", "incidents", ["rule", "shop_id"], "resolved_by is not null"),
    ("ix_incidents_mailed", "incidents", ["rule", "period"], "mailed_at is not null"),
    (
        "ix_work_queue_requeued",
        "work_queue",
        ["topic", "shop_id"],
        "died_at is not null and status in ('pending','error')",
    ),
)


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    for table, column in _COLUMNS:
        op.add_column(table, column)
    for name, table, columns, where in _INDEXES:
        op.create_index(name, table, columns, unique=False, postgresql_where=sa.text(where))
    # What was open before was mailed in the former way, or is older than any mail about it would help.
    op.execute("update incidents set mailed_at = updated_at")


def downgrade() -> None:
    for name, table, _, _ in reversed(_INDEXES):
        op.drop_index(name, table_name=table)
    for table, column in reversed(_COLUMNS):
        op.drop_column(table, column.name)
