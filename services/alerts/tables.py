"""Incidents: one row per (shop, rule, period)."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import metadata

incidents = Table(
    "incidents",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("shop_id", Integer),
    Column("rule", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'open'")),
    Column("summary", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("resolved_at", DateTime(timezone=True)),
    # The person who closed it, and why; null if the rule closed it.
    Column("resolved_by", Text),
    Column("resolved_reason", Text),
    # When a mail to the operator last contained it.
    Column("mailed_at", DateTime(timezone=True)),
    Index("ix_incidents_mailed", "rule", "period", postgresql_where=text("mailed_at is not null")),
    Index("ix_incidents_open", "severity", "id", postgresql_where=text("status = 'open'")),
    Index("ix_incidents_closed", "rule", "shop_id", postgresql_where=text("resolved_by is not null")),
    UniqueConstraint(
        "shop_id", "rule", "period", name="uq_incidents_identity", postgresql_nulls_not_distinct=True
    ),
)
