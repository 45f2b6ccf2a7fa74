"""Calls and messages between customers and shops: one row per object of the provider."""

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import metadata

interactions = Table(
    "interactions",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("provider_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("participants", JSONB, nullable=False),
    Column("body", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("version_at", DateTime(timezone=True), nullable=False),
    Column("event_id", BigInteger),
    Index("ix_interactions_occurred_at", "shop_id", "occurred_at"),
)
