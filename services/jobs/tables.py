"""Tables of the jobs. A run is a row, unique per (job, shop, period): no run is lost or made twice."""

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

# A copy of ``beat_schedule.JOBS``, written by the leading beat for code that may not import it.
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

# Changes made by a person: for one shop, or (``shop_id`` null) for the job as a whole.
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

# Until when the runs of a job are planned at a shop, when the next one is due (null while it is paused), and
# by which schedule that was computed.
job_schedule_state = Table(
    "job_schedule_state",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job", Text, nullable=False),
    Column("shop_id", Integer),
    Column("scheduled_until", _at, nullable=False),
    Column("next_due_at", _at),
    Column("schedule", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    UniqueConstraint(
        "job", "shop_id", name="uq_job_schedule_state_scope", postgresql_nulls_not_distinct=True
    ),
)

# One check-in of a Sentry monitor: it covers the runs of a job in one zone for one period.
monitor_checkins = Table(
    "monitor_checkins",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job", Text, nullable=False),
    Column("monitor", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("config", JSONB, nullable=False, server_default=text("'{}'")),
    Column("opened_at", _at, nullable=False),
    Column("closed_at", _at),
    Index(
        "ix_monitor_checkins_open",
        "monitor",
        "period",
        unique=True,
        postgresql_where=text("closed_at is null"),
    ),
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
    Column("checkin_id", BigInteger),
    UniqueConstraint(
        "job", "shop_id", "period", name="uq_job_runs_period", postgresql_nulls_not_distinct=True
    ),
    Index("ix_job_runs_open", "due_at", postgresql_where=text("ended_at is null")),
    Index("ix_job_runs_failed", "ended_at", postgresql_where=text("status = 'failed'")),
    Index("ix_job_runs_history", "job", "shop_id", "due_at"),
    Index("ix_job_runs_checkin", "checkin_id", postgresql_where=text("checkin_id is not null")),
)
