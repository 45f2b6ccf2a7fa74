"""Locations: where a shop keeps and sells its goods, and in which province."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.fields import find_text, read_id
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EPOCH, EntityState, EntityUpdate
from services.shopify.payload_fields import find_province, updated_at_or_event_time
from services.shopify.upsert import EntitySpec, upsert_entities


class Location(NamedTuple):
    """A location as one event told it; ``province`` as in ``CA-ON``."""

    updated_at: datetime
    name: str
    province: str
    is_active: bool

    @property
    def version(self) -> tuple[Any, ...]:
        """The newest; within one second closed beats open, and the texts only decide what is left."""
        return (self.updated_at, not self.is_active, self.name, self.province)


def ingest_locations(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every location stands as its newest event told it; ``deleted_at`` stays once told.

    Whether a location is open is read from the body, never from the topic.
    """
    return upsert_entities(tx, items, _KIND, lambda item: _read(item, now))


def _read(item: WorkItem, now: datetime) -> EntityUpdate[Location]:
    source = read_event(item)
    key = (item.shop_id, read_id(source, "id"))
    if item.event_topic == "locations/delete":
        return EntityUpdate(key, EntityState(None, item.event_time(now)))
    state = Location(
        updated_at_or_event_time(source, item, now),
        find_text(source, "name"),
        find_province(source),
        source["active"] is not False,
    )
    return EntityUpdate(key, EntityState(state))


_FIND = """
select t.shop_id, t.location_id, t.deleted_at, t.updated_at, t.name, t.province, t.is_active
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join locations t on t.shop_id = v.shop_id and t.location_id = v.id
"""

_WRITE = """
insert into locations (shop_id, location_id, deleted_at, updated_at, name, province, is_active)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(deleted_at)s::timestamptz[],
                     %(updated_at)s::timestamptz[], %(name)s::text[], %(province)s::text[],
                     %(is_active)s::boolean[])
on conflict (shop_id, location_id) do update set
   deleted_at = excluded.deleted_at, updated_at = excluded.updated_at, name = excluded.name,
   province = excluded.province, is_active = excluded.is_active
"""

_KIND = EntitySpec(
    table="locations",
    noun="location",
    code="shopify.unreadable_location",
    find=_FIND,
    make=Location,
    write=_WRITE,
    columns={"updated_at": "timestamptz", "name": "text", "province": "text", "is_active": "boolean"},
    blank=Location(EPOCH, "", "", True),
    shown=("name", "province", "is_active"),
    lock=lambda number: f"location:{number}",
)
