"""A run of a job is a row, unique per (job, shop, period): no run twice, none lost."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, Integer, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import metadata

job_runs = Table(
    "job_runs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job", Text, nullable=False),
    Column("shop_id", Integer),
    Column("period", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("status", Text, nullable=False),
    Column("stats", JSONB, nullable=False, server_default=text("'{}'")),
    Column("origin", Text, nullable=False),
    UniqueConstraint(
        "job", "shop_id", "period", name="uq_job_runs_period", postgresql_nulls_not_distinct=True
    ),
)
