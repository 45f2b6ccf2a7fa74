"""What a shop's backfill has read so far, and may read: ``shop_config.settings -> 'backfill'``."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection

from services.core.pg_arrays import int_array
from services.providers.delivery import find_instant
from services.shops.shops import list_shops

READ_ALL_ORDERS = "read_all_orders"
OLDEST_ORDERS = datetime(2020, 1, 1, tzinfo=UTC)
"""Orders since then are all that ``describe_limit`` wants."""

_FIND = """
select shop_id, settings -> 'backfill' as state from shop_config
 where shop_id = any(%(shop_id)s::int[]) and jsonb_typeof(settings -> 'backfill') = 'object'
"""

_UPDATE = """
insert into shop_config as c (shop_id, settings)
values (%(shop_id)s, jsonb_build_object('backfill', %(changes)s::jsonb))
on conflict (shop_id) do update set settings = c.settings || jsonb_build_object(
   'backfill', coalesce(c.settings -> 'backfill', '{}'::jsonb) || %(changes)s::jsonb)
"""


class BackfillState(NamedTuple):
    """``scopes`` are those that Shopify granted at the last backfill.

    ``catalogue_begun_at`` and ``catalogue_read_at`` are when the first reading of the whole catalogue began
    and ended, ``open_orders_at`` when the open orders of any age were read. All orders since ``orders_since``
    are read; None before the first backfill. ``bulk`` has the gid of the bulk operation of a list.
    """

    scopes: tuple[str, ...] = ()
    catalogue_begun_at: datetime | None = None
    catalogue_read_at: datetime | None = None
    open_orders_at: datetime | None = None
    orders_since: datetime | None = None
    bulk: Mapping[str, str] = {}

    @property
    def has_all_orders(self) -> bool:
        """Whether Shopify shows orders of more than 60 days."""
        return READ_ALL_ORDERS in self.scopes

    def describe_limit(self, slug: str, zone: ZoneInfo) -> str:
        """Return which orders are not read, and the remedy; empty before the first and once all are read."""
        if self.orders_since is None or (self.has_all_orders and self.orders_since <= OLDEST_ORDERS):
            return ""
        day = f"{self.orders_since.astimezone(zone):%Y-%m-%d}"
        if not self.has_all_orders:
            return f"orders before {day} cannot be read: grant {READ_ALL_ORDERS}"
        command = f"fleet backfill run --shop {slug} --since {OLDEST_ORDERS:%Y-%m-%d}"
        return f"of the orders before {day} only the open ones were read: `{command}` reads the others"


def find_states(tx: Connection, shop_ids: Collection[int]) -> dict[int, BackfillState]:
    """Return the state of each shop that had a backfill."""
    rows = tx.exec_driver_sql(_FIND, {"shop_id": int_array(shop_ids)})
    return {row.shop_id: _parse(row.state) for row in rows}


def find_state(tx: Connection, shop_id: int) -> BackfillState:
    return find_states(tx, [shop_id]).get(shop_id, BackfillState())


def count_unread_days(tx: Connection, shop_id: int, begins: datetime, ends: datetime, zone: ZoneInfo) -> int:
    """Return how many days of the period, from its first on, have orders that were not read.

    0 if all orders are read, or the shop had no backfill: then its orders come from webhooks alone.
    """
    since = find_state(tx, shop_id).orders_since
    if since is None or since <= begins:
        return 0
    until = min(since, ends)
    days = (until.astimezone(zone).date() - begins.astimezone(zone).date()).days
    return max(1, days + (until < ends))


def list_order_limits(tx: Connection) -> list[tuple[str, str]]:
    """Return the slug of each shop of which orders are not read, with ``describe_limit``."""
    shops = list_shops(tx)
    states = find_states(tx, [shop.id for shop in shops])
    return [
        (shop.slug, limit)
        for shop in shops
        if (limit := states.get(shop.id, BackfillState()).describe_limit(shop.slug, shop.zone))
    ]


def update_state(tx: Connection, shop_id: int, **changes: Any) -> None:
    """Change the given fields of the shop's ``BackfillState``."""
    tx.exec_driver_sql(_UPDATE, {"shop_id": shop_id, "changes": orjson.dumps(changes).decode()})


def _parse(stored: Mapping[str, Any]) -> BackfillState:
    times = {name: find_instant(stored.get(name)) for name in BackfillState._fields if name[-3:] == "_at"}
    return BackfillState(
        scopes=tuple(stored.get("scopes") or ()),
        orders_since=find_instant(stored.get("orders_since")),
        bulk=stored.get("bulk") or {},
        **times,
    )
