"""The four shops of the demo: zones, currencies, items and secrets."""

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from services.jobs.schedule import day_bounds, find_due_day
from services.providers.provider import make_whsec
from services.providers.registry import SECRET_KINDS
from services.sandbox.notion.connection import SAMPLE_DATA_SOURCE
from services.sandbox.payloads.catalogue import Item, make_items
from services.shops.secrets import record_secret
from services.shops.shops import add_shop

LOCATION_ID = 65_536_001
ITEM_COUNT = 12
OPENED_BEFORE = timedelta(days=30)
"""By how much the shops are made older for the night: they must be older than yesterday."""

POOL = "tokyo"
LEADER, FOLLOWER = "sakura", "momiji"
"""Two shops that share their stock. The follower has the counts of the leader."""

_SHOPS = (
    ("harbour", "Harbour Goods", "America/Vancouver", "CAD", "shopfleet"),
    (LEADER, "Sakura Stationery", "Asia/Tokyo", "JPY", f"pool:{POOL}"),
    ("linden", "Linden Seifen", "Europe/Berlin", "EUR", "shopify"),
    (FOLLOWER, "Momiji Paper", "Asia/Tokyo", "JPY", f"pool:{POOL}"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoShop:
    """A shop of the demo. ``legacy_quo``: its messages have OpenPhone's old format, its mails Resend's."""

    slug: str
    name: str
    timezone: str
    currency: str
    items: tuple[Item, ...]
    secrets: dict[str, str] = field(repr=False)
    legacy_quo: bool = False
    stock_owner: str = "shopify"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def domain(self) -> str:
        return f"{self.slug}.myshopify.com"

    def yesterday(self, now: datetime) -> tuple[date, datetime]:
        """Return the last complete day in the shop's zone, and its begin (UTC)."""
        day = find_due_day(self.zone, now)
        return day, day_bounds(self.zone, day)[0]


def make_shops(rng: random.Random) -> list[DemoShop]:
    """Return the shops. Items depend on ``rng``; secrets do not."""
    items = {
        slug: make_items(rng, ITEM_COUNT, minor_units=1 if currency == "JPY" else 100)
        for slug, _, _, currency, _ in _SHOPS
    }
    pairs = zip(items[FOLLOWER], items[LEADER], strict=True)
    items[FOLLOWER] = [replace(item, sku=leading.sku) for item, leading in pairs]
    return [
        DemoShop(
            slug=slug,
            name=name,
            timezone=timezone,
            currency=currency,
            items=tuple(items[slug]),
            secrets=_make_secrets(),
            legacy_quo=slug == "linden",
            stock_owner=owner,
        )
        for slug, name, timezone, currency, owner in _SHOPS
    ]


def record_shops(tx: Connection, shops: list[DemoShop], now: datetime) -> dict[str, int]:
    """Record every shop with its sealed secrets; return their ids by slug."""
    ids = {}
    for shop in shops:
        added = add_shop(
            tx,
            slug=shop.slug,
            name=shop.name,
            timezone=shop.timezone,
            currency=shop.currency,
            owner_email=f"owner@{shop.slug}.example",
            accountant_email=f"books@{shop.slug}.example",
            shopify_domain=shop.domain,
            stock_location_id=str(LOCATION_ID),
            stock_owner=shop.stock_owner,
            notion_data_source=SAMPLE_DATA_SOURCE,
            now=now,
            by="demo",
        )
        for name, value in shop.secrets.items():
            record_secret(tx, added.id, name, value, now, by="demo")
        ids[shop.slug] = added.id
    return ids


def find_owning(shops: Sequence[DemoShop]) -> set[str]:
    return {shop.slug for shop in shops if shop.stock_owner == "shopfleet"}


def age_shops(tx: Connection, now: datetime) -> None:
    """Move the creation of the shops back by ``OPENED_BEFORE``. Safe to repeat."""
    statement = text("update shops set created_at = created_at - :by where created_at > :since")
    tx.execute(statement, {"by": OPENED_BEFORE, "since": now - OPENED_BEFORE / 2})


def _make_secrets() -> dict[str, str]:
    return {
        kind.name: kind.generate() for kind in SECRET_KINDS.values() if kind.is_webhook and kind.make_value
    } | {
        "standard-webhook:mail": make_whsec(),
        "shopify-token": f"shpat_{secrets.token_hex(16)}",
        "stripe-key": f"sk_test_{secrets.token_hex(16)}",
        "notion-key": f"ntn_{secrets.token_hex(16)}",
        "quo-key": secrets.token_hex(16),
    }
