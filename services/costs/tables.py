"""Metered costs: what calls of a shop cost at an outside service."""

from sqlalchemy import BigInteger, Date, Integer, Table, Text

from services.core.columns import AT, columns, keys
from services.core.db import metadata

# ``day`` is a day of the shop's zone, or of the service that bills by day. ``reference`` is what was billed.
metered_costs = Table(
    "metered_costs",
    metadata,
    *keys("shop_id", Integer),
    *keys("kind", Text),
    *keys("day", Date),
    *keys("source reference", Text),
    *columns("amount_micros", BigInteger),
    *columns("currency", Text),
    *columns("recorded_at", AT),
)
