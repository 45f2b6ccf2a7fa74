"""Incidents: one row per (shop, rule, period)."""

from sqlalchemy import Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from services.core.columns import AT, NO_JSON, columns, identity, optional, unique
from services.core.db import metadata

incidents = Table(
    "incidents",
    metadata,
    identity(),
    *optional("shop_id", Integer),
    *columns("rule period severity", Text),
    *columns("status", Text, text("'open'")),
    *columns("summary", Text),
    *columns("detail", JSONB, NO_JSON),
    *columns("opened_at updated_at", AT),
    *optional("resolved_at", AT),
    # The person who closed it, and why; null if the rule closed it.
    *optional("resolved_by resolved_reason", Text),
    # When a mail to the operator last contained it.
    *optional("mailed_at", AT),
    Index("ix_incidents_mailed", "rule", "period", postgresql_where=text("mailed_at is not null")),
    Index("ix_incidents_open", "severity", "id", postgresql_where=text("status = 'open'")),
    Index("ix_incidents_closed", "rule", "shop_id", postgresql_where=text("resolved_by is not null")),
    unique("uq_incidents_identity", "shop_id", "rule", "period"),
)
