"""Metered costs: what calls of a shop cost at an outside service."""

from sqlalchemy import BigInteger, Date, Index, Integer, Table, Text

from services.core.columns import AT, columns, keys
from services.core.db import metadata

# The total of each day. ``day`` is a day of the shop's zone, or of the service if it bills by day.
metered_costs = Table(
    "metered_costs",
    metadata,
    *keys("shop_id", Integer),
    *keys("kind", Text),
    *keys("day", Date),
    *keys("source currency", Text),
    *columns("amount_micros", BigInteger),
)

# What each total consists of, so that a retry counts once; deleted when no retry can come any more.
cost_references = Table(
    "cost_references",
    metadata,
    *keys("shop_id", Integer),
    *keys("kind", Text),
    *keys("day", Date),
    *keys("source reference", Text),
    *columns("amount_micros", BigInteger),
    *columns("currency", Text),
    *columns("recorded_at", AT),
    Index("ix_cost_references_recorded_at", "recorded_at"),
)
