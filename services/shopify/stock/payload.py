"""Parses Shopify's webhooks of inventory levels. Pure."""

from datetime import datetime
from typing import NamedTuple

from services.core.fields import read_count, read_id, read_instant
from services.ledger.work import WorkItem
from services.shopify.payload import read_event
from services.shopify.stock.levels import PUSH_TOPIC, LevelKey


class LevelObservation(NamedTuple):
    """Shopify held ``available`` pieces at ``observed_at``, according to the event of ``item``."""

    key: LevelKey
    item: WorkItem
    available: int
    observed_at: datetime

    @property
    def is_read(self) -> bool:
        """Whether a push read it: then ``pools.record_pool_reads`` changes the pool."""
        return self.item.topic == PUSH_TOPIC

    @property
    def is_connected(self) -> bool:
        return self.item.event_topic == "inventory_levels/connect"

    @property
    def version(self) -> tuple[datetime, int]:
        """The time; in the same second the lower figure is the newer version.

        Shopify's times are whole seconds. Overselling costs more than offering too little.
        """
        return (self.observed_at, -self.available)


class LevelDisconnection(NamedTuple):
    """The item is not stocked at the location since ``disconnected_at``, according to ``item``'s event."""

    key: LevelKey
    item: WorkItem
    disconnected_at: datetime


LevelEvent = LevelObservation | LevelDisconnection


def parse_level(item: WorkItem, now: datetime) -> LevelEvent | None:
    """Return the event of ``item``; None if Shopify does not track the item. Raises ``Unreadable``."""
    source = read_event(item)
    is_disconnected = item.event_topic == "inventory_levels/disconnect"
    if not is_disconnected and source.get("available") is None:
        return None
    key = LevelKey(item.shop_id, read_id(source, "inventory_item_id"), read_id(source, "location_id"))
    if is_disconnected:  # the body has no time, only the delivery's headers
        return LevelDisconnection(key, item, item.event_time(now))
    return LevelObservation(key, item, read_count(source, "available"), read_instant(source, "updated_at"))
