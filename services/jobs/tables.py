"""Tables of the jobs. A run is a row, unique per (job, shop, period)."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from services.core.columns import AT, EMPTY, NO_JSON, columns, identity, keys, optional, unique
from services.core.db import metadata

# A copy of ``beat_schedule.JOBS``, written by the leader beat for code that may not import it.
jobs = Table(
    "jobs",
    metadata,
    *keys("name", Text),
    *columns("topic title schedule zone", Text),
    *columns("per_shop", Boolean),
    *columns("covers", Text),
    *columns("grace_seconds", Double),
    *columns("catch_up", Text),
    *columns("min_run_seconds", Double),
    *columns("volume evidence", Text),
    *columns("first_seen_at", AT),
    *optional("retired_at", AT),
)

# Changes by a person: for one shop, or (``shop_id`` null) for the whole job.
job_overrides = Table(
    "job_overrides",
    metadata,
    identity(Integer),
    *columns("job", Text),
    Column("shop_id", Integer, sa.ForeignKey("shops.id")),
    *optional("schedule", Text),
    *optional("enabled", Boolean),
    *columns("reason", Text, EMPTY),
    *columns("changed_at", AT, sa.func.now()),
    *columns("changed_by", Text),
    unique("uq_job_overrides_scope", "job", "shop_id"),
)

# Until when the runs of a job are planned at a shop, when the next run is due (null while the job is paused),
# and the schedule used.
job_schedule_state = Table(
    "job_schedule_state",
    metadata,
    identity(),
    *columns("job", Text),
    *optional("shop_id", Integer),
    *columns("scheduled_until", AT),
    *optional("next_due_at", AT),
    *columns("schedule zone", Text),
    *columns("enabled", Boolean),
    unique("uq_job_schedule_state_scope", "job", "shop_id"),
)

_IS_OPEN = text("closed_at is null")

# One check-in of a Sentry monitor covers the runs of a job in one zone for one period.
monitor_checkins = Table(
    "monitor_checkins",
    metadata,
    identity(),
    *columns("job monitor period", Text),
    *columns("config", JSONB, NO_JSON),
    *columns("opened_at", AT),
    *optional("closed_at", AT),
    Index("ix_monitor_checkins_open", "monitor", "period", unique=True, postgresql_where=_IS_OPEN),
)

job_runs = Table(
    "job_runs",
    metadata,
    identity(),
    *columns("job", Text),
    *optional("shop_id", Integer),
    *columns("period", Text),
    *columns("due_at", AT),
    *optional("started_at ended_at", AT),
    *columns("status", Text),
    *columns("stats", JSONB, NO_JSON),
    *optional("error", Text),
    *columns("origin", Text),
    *columns("started_by request_id", Text, EMPTY),
    *optional("work_id checkin_id", BigInteger),
    unique("uq_job_runs_period", "job", "shop_id", "period"),
    Index("ix_job_runs_open", "due_at", postgresql_where=text("ended_at is null")),
    Index("ix_job_runs_failed", "ended_at", postgresql_where=text("status = 'failed'")),
    Index("ix_job_runs_history", "job", "shop_id", "due_at"),
    Index("ix_job_runs_checkin", "checkin_id", postgresql_where=text("checkin_id is not null")),
)
