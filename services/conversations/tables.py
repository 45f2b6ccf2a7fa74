"""Calls and messages between customers and shops: one row per object of the provider."""

from sqlalchemy import BigInteger, Index, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from services.core.columns import AT, columns, keys, optional
from services.core.db import metadata

interactions = Table(
    "interactions",
    metadata,
    *keys("shop_id", Integer),
    *keys("provider_id", Text),
    *columns("kind direction status", Text),
    *columns("participants", JSONB),
    *columns("body", Text),
    *columns("detail", JSONB),
    *columns("occurred_at version_at", AT),
    *optional("event_id", BigInteger),
    Index("ix_interactions_occurred_at", "shop_id", "occurred_at"),
)
