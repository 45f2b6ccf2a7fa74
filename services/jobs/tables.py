"""Time. A run of a job is a row, unique per (job, shop, period): no run twice, none lost."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import metadata

_at = DateTime(timezone=True)

# ``beat_schedule.JOBS`` as the leading beat last wrote it here, for whoever may not import it.
jobs = Table(
    "jobs",
    metadata,
    Column("name", Text, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("schedule", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("per_shop", Boolean, nullable=False),
    Column("covers", Text, nullable=False),
    Column("grace_seconds", Double, nullable=False),
    Column("catch_up", Text, nullable=False),
    Column("min_run_seconds", Double, nullable=False),
    Column("volume", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("first_seen_at", _at, nullable=False),
    Column("retired_at", _at),
)

# What a person changed: for one shop, or (``shop_id`` null) for the job as a whole.
job_overrides = Table(
    "job_overrides",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("job", Text, nullable=False),
    Column("shop_id", Integer, ForeignKey("shops.id")),
    Column("schedule", Text),
    Column("enabled", Boolean),
    Column("reason", Text, nullable=False, server_default=text("''")),
    Column("changed_at", _at, nullable=False, server_default=func.now()),
    Column("changed_by", Text, nullable=False),
    UniqueConstraint("job", "shop_id", name="uq_job_overrides_scope", postgresql_nulls_not_distinct=True),
)

# How far a job's slots are dealt with, and when the next one is expected; null while it is paused.
# ``spec`` is the schedule, zone and switch by which that was reckoned.
job_clocks = Table(
    "job_clocks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job", Text, nullable=False),
    Column("shop_id", Integer),
    Column("handled_until", _at, nullable=False),
    Column("next_due_at", _at),
    Column("spec", Text, nullable=False, server_default=text("''")),
    UniqueConstraint("job", "shop_id", name="uq_job_clocks_scope", postgresql_nulls_not_distinct=True),
)

# The runs of one slot that one monitor watches: a job, in a zone, for a period. One check-in each.
job_rounds = Table(
    "job_rounds",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job", Text, nullable=False),
    Column("monitor", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("config", JSONB, nullable=False, server_default=text("'{}'")),
    Column("opened_at", _at, nullable=False),
    Column("closed_at", _at),
    Index("ix_job_rounds_open", "monitor", "period", unique=True, postgresql_where=text("closed_at is null")),
)

job_runs = Table(
    "job_runs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job", Text, nullable=False),
    Column("shop_id", Integer),
    Column("period", Text, nullable=False),
    Column("due_at", _at, nullable=False),
    Column("started_at", _at),
    Column("ended_at", _at),
    Column("status", Text, nullable=False),
    Column("stats", JSONB, nullable=False, server_default=text("'{}'")),
    Column("error", Text),
    Column("origin", Text, nullable=False),
    Column("started_by", Text, nullable=False, server_default=text("''")),
    Column("request_id", Text, nullable=False, server_default=text("''")),
    Column("work_id", BigInteger),
    Column("round_id", BigInteger),
    UniqueConstraint(
        "job", "shop_id", "period", name="uq_job_runs_period", postgresql_nulls_not_distinct=True
    ),
    Index("ix_job_runs_open", "due_at", postgresql_where=text("ended_at is null")),
    Index("ix_job_runs_failed", "ended_at", postgresql_where=text("status = 'failed'")),
    Index("ix_job_runs_history", "job", "shop_id", "due_at"),
    Index("ix_job_runs_round", "round_id", postgresql_where=text("round_id is not null")),
)
