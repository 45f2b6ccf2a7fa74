"""The audit chain's tables. The application's role may add rows and read them, nothing else."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import metadata

audit_events = Table(
    "audit_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("shop_id", Integer),
    Column("seq", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("staff_label", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("shop_id", "seq", name="uq_audit_events_seq", postgresql_nulls_not_distinct=True),
    Index("ix_audit_events_at", "at"),
)

audit_mutations = Table(
    "audit_mutations",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", BigInteger, ForeignKey("audit_events.id"), nullable=False, index=True),
    Column("table_name", Text, nullable=False),
    Column("row_id", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("before", JSONB),
    Column("after", JSONB),
)
