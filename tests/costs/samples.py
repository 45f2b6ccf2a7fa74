"""A shop with limits, and its costs."""

from datetime import UTC, date, datetime

from sqlalchemy import Connection

from services.costs.store import Cost, record_cost
from services.shops.shops import Shop, add_shop

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def add_limited_shop(tx: Connection, slug: str = "harbour", **fields: str) -> Shop:
    """Add a shop in Los Angeles with a cap of 50 CAD for AI and a budget of 20 CAD for SMS."""
    usual = {
        "name": "Harbour",
        "timezone": "America/Los_Angeles",
        "currency": "CAD",
        "owner_email": "owner@harbour.example",
        "ai_cap": "50.00 CAD",
        "sms_budget": "20 CAD",
    }
    return add_shop(tx, slug=slug, now=NOW, **usual | fields)  # type: ignore[arg-type]


def spend(
    tx: Connection, shop: Shop, amount: str, currency: str = "CAD", *, kind: str = "ai", now: datetime = NOW,
    day: date | None = None, reference: str = "work 1",
) -> int:  # fmt: skip
    """Record one cost of ``shop``; return 1 if that changed something."""
    return record_cost(tx, Cost(shop.id, kind, "test", reference, amount, currency, day), now=now)
