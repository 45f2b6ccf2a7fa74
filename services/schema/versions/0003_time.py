"""Time: jobs, their overrides, clocks and rounds; what a run was started for and by"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.create_table(
        "jobs",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("per_shop", sa.Boolean(), nullable=False),
        sa.Column("covers", sa.Text(), nullable=False),
        sa.Column("grace_seconds", sa.Double(), nullable=False),
        sa.Column("catch_up", sa.Text(), nullable=False),
        sa.Column("min_run_seconds", sa.Double(), nullable=False),
        sa.Column("volume", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_jobs")),
    )
    op.create_table(
        "job_overrides",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=True),
        sa.Column("schedule", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["shop_id"], ["shops.id"], name=op.f("fk_job_overrides_shop_id_shops")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_overrides")),
        sa.UniqueConstraint(
            "job", "shop_id", name="uq_job_overrides_scope", postgresql_nulls_not_distinct=True
        ),
    )
    op.create_table(
        "job_clocks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("shop_id", sa.Integer(), nullable=True),
        sa.Column("handled_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("spec", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_clocks")),
        sa.UniqueConstraint("job", "shop_id", name="uq_job_clocks_scope", postgresql_nulls_not_distinct=True),
    )
    op.create_table(
        "job_rounds",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("monitor", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column(
            "config", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_rounds")),
    )
    op.create_index(
        "ix_job_rounds_open",
        "job_rounds",
        ["monitor", "period"],
        unique=True,
        postgresql_where=sa.text("closed_at is null"),
    )
    op.add_column("job_runs", sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("update job_runs set due_at = started_at")
    op.alter_column("job_runs", "due_at", nullable=False)
    op.add_column("job_runs", sa.Column("error", sa.Text(), nullable=True))
    op.add_column(
        "job_runs", sa.Column("started_by", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column(
        "job_runs", sa.Column("request_id", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column("job_runs", sa.Column("work_id", sa.BigInteger(), nullable=True))
    op.add_column("job_runs", sa.Column("round_id", sa.BigInteger(), nullable=True))
    op.alter_column(
        "job_runs", "started_at", existing_type=postgresql.TIMESTAMP(timezone=True), nullable=True
    )
    op.create_index("ix_job_runs_history", "job_runs", ["job", "shop_id", "due_at"], unique=False)
    op.create_index(
        "ix_job_runs_open", "job_runs", ["due_at"], unique=False, postgresql_where=sa.text("ended_at is null")
    )
    op.create_index(
        "ix_job_runs_round",
        "job_runs",
        ["round_id"],
        unique=False,
        postgresql_where=sa.text("round_id is not null"),
    )


def downgrade() -> None:
    for index in ("ix_job_runs_round", "ix_job_runs_open", "ix_job_runs_history"):
        op.drop_index(index, table_name="job_runs")
    op.execute("delete from job_runs where started_at is null")
    op.alter_column("job_runs", "started_at", nullable=False)
    for column in ("round_id", "work_id", "request_id", "started_by", "error", "due_at"):
        op.drop_column("job_runs", column)
    for table in ("job_rounds", "job_clocks", "job_overrides", "jobs"):
        op.drop_table(table)
