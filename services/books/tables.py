"""Payments and the breaks that a reconciliation finds. Money is integer minor units."""

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
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

_at = DateTime(timezone=True)

transactions = Table(
    "transactions",
    metadata,
    Column("shop_id", Integer, primary_key=True),
    Column("provider_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("refunded_cents", BigInteger, nullable=False, server_default=text("0")),
    Column("currency", Text, nullable=False),
    Column("occurred_at", _at, nullable=False),
    Column("parent_id", Text),
    Column("version_at", _at, nullable=False),
    Column("event_id", BigInteger),
    Index("ix_transactions_occurred_at", "shop_id", "occurred_at"),
)

reconciliation_breaks = Table(
    "reconciliation_breaks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("shop_id", Integer, nullable=False),
    Column("day", Date, nullable=False),
    Column("kind", Text, nullable=False),
    Column("provider_id", Text, nullable=False),
    Column("ours", JSONB),
    Column("theirs", JSONB),
    Column("found_at", _at, nullable=False),
    Column("closed_at", _at),
    UniqueConstraint("shop_id", "day", "kind", "provider_id", name="uq_reconciliation_breaks_identity"),
)
