"""What Shopify tells of a level: what it held at a time, or that it is stocked there no more. Pure."""

from datetime import datetime
from typing import NamedTuple

from services.core.fields import read_count, read_id, read_instant
from services.ledger.work import WorkItem
from services.shopify.event_payload import read_event
from services.shopify.stock.levels import PUSH_TOPIC, LevelKey


class LevelObservation(NamedTuple):
    """Shopify held ``available`` pieces of an item at a location at ``observed_at``.

    ``is_read``: a push of ours asked for it, and what it means for a pool is decided there.
    ``is_connected``: from then on the item is stocked there, maybe again.
    """

    shop_id: int
    inventory_item_id: int
    location_id: int
    available: int
    observed_at: datetime
    event_id: int | None
    request_id: str
    work_id: int
    is_read: bool = False
    is_connected: bool = False

    @property
    def key(self) -> LevelKey:
        """Which level this is about."""
        return (self.shop_id, self.inventory_item_id, self.location_id)

    @property
    def version(self) -> tuple[datetime, int]:
        """What makes one observation newer: its time, and within one second the lower figure.

        Shopify's times are whole seconds. Of two figures for one second the lower is believed, since
        selling what is not there costs more than a shelf left short until the next word.
        """
        return (self.observed_at, -self.available)


class LevelDisconnection(NamedTuple):
    """An item is not stocked at a location any more, since ``disconnected_at``."""

    shop_id: int
    inventory_item_id: int
    location_id: int
    disconnected_at: datetime
    event_id: int | None
    request_id: str
    work_id: int

    @property
    def key(self) -> LevelKey:
        """Which level this is about."""
        return (self.shop_id, self.inventory_item_id, self.location_id)


def parse_level(item: WorkItem, now: datetime) -> LevelObservation | LevelDisconnection | None:
    """Return what ``item``'s event tells; None where Shopify does not count the item. ``Unreadable``."""
    source = read_event(item)
    if item.event_topic == "inventory_levels/disconnect":
        # It tells which level, and not when: that is in the delivery's headers.
        return LevelDisconnection(
            item.shop_id,
            read_id(source, "inventory_item_id"),
            read_id(source, "location_id"),
            item.event_time(now),
            item.event_id,
            item.request_id,
            item.id,
        )
    if source.get("available") is None:
        return None
    return LevelObservation(
        shop_id=item.shop_id,
        inventory_item_id=read_id(source, "inventory_item_id"),
        location_id=read_id(source, "location_id"),
        available=read_count(source, "available"),
        observed_at=read_instant(source, "updated_at"),
        event_id=item.event_id,
        request_id=item.request_id,
        work_id=item.id,
        is_read=item.topic == PUSH_TOPIC,
        is_connected=item.event_topic == "inventory_levels/connect",
    )
