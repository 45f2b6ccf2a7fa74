"""Locations of a shop: where it stocks and sells items, and in which province."""

from datetime import datetime
from typing import Any, NamedTuple

from services.core.fields import find_text, read_id
from services.ledger.work import WorkItem
from services.shopify.entities import EPOCH, EntityHandler, EntitySpec, EntityUpdate
from services.shopify.payload import find_province, read_event, updated_at_or_event_time
from services.shopify.tables import locations


class Location(NamedTuple):
    """A location; ``province`` as in ``CA-ON``."""

    updated_at: datetime
    name: str
    province: str
    is_active: bool

    @property
    def version(self) -> tuple[Any, ...]:
        """The time; within the same second closed wins over open, then the texts decide."""
        return (self.updated_at, not self.is_active, self.name, self.province)


def _parse(item: WorkItem, now: datetime) -> list[EntityUpdate[Location]]:
    source = read_event(item)
    key = (item.shop_id, read_id(source, "id"))
    if item.event_topic == "locations/delete":
        return [EntityUpdate(key, deleted_at=item.event_time(now))]
    data = Location(
        updated_at=updated_at_or_event_time(source, item, now),
        name=find_text(source, "name"),
        province=find_province(source),
        is_active=source["active"] is not False,
    )
    return [EntityUpdate(key, data)]


_SPEC = EntitySpec(
    name="location",
    table=locations,
    make=Location,
    audited=("name", "province", "is_active"),
    blank=Location(EPOCH, "", "", is_active=True),
)

ingest_locations = EntityHandler(_SPEC, _parse)
"""Whether a location is open is in the payload, not in the topic."""
