"""Inventory items (SKU, unit cost, whether Shopify tracks them), and whether a variant is in stock.

The latter has a separate table, by the variant's id: its payload has no product title and, in Shopify's
sample of 2026-07, no inventory item, which is the key of ``variants``.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.core.fields import Unreadable, find_id, find_money, find_text, parse_items, read_count, read_id
from services.core.pg_arrays import arrays, int_array
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.entities import EPOCH, EntityHandler, EntityKey, EntitySpec, EntityUpdate, upsert_parsed
from services.shopify.logistics.tables import variant_stock
from services.shopify.payload import read_event, updated_at_or_event_time
from services.shopify.stock.level_sku_sync import sync_level_skus
from services.shopify.stock.levels import item_lock
from services.shopify.tables import data_class, inventory_items

_InventoryItem = data_class(inventory_items)
_VariantStock = data_class(variant_stock, {True: 1}, ranked="is_in_stock")


def ingest_inventory_items(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert inventory items; set their SKU on their levels, and disconnect the levels of deleted items.

    A deletion counts if the item, its variant or one of its levels is recorded.
    """
    currencies = _find_currencies(tx, {item.shop_id for item in items})
    parsed = parse_items(items, lambda item: _parse(item, currencies, now), _SPEC.unreadable)
    result = upsert_parsed(tx, items, parsed, _SPEC)
    return result.to_handler_result(items, sync_level_skus(tx, result.changed, result.mutations, now))


def _find_currencies(tx: Connection, shops: Collection[int]) -> dict[int, str]:
    rows = tx.exec_driver_sql(
        "select id, currency from shops where id = any(%(id)s::int[])", {"id": int_array(sorted(shops))}
    )
    return {row.id: row.currency for row in rows}


def _parse(item: WorkItem, currencies: Mapping[int, str], now: datetime) -> list[EntityUpdate[Any]]:
    source = read_event(item)
    key = (item.shop_id, read_id(source, "id"))
    if item.event_topic == "inventory_items/delete":
        return [EntityUpdate(key, deleted_at=item.event_time(now))]
    currency = currencies.get(item.shop_id, "")
    if source.get("cost") is not None and not currency:
        raise Unreadable("cost", source.get("cost"), f"of a known shop: there is no shop {item.shop_id}")
    data = _InventoryItem(
        updated_at=updated_at_or_event_time(source, item, now),
        sku=find_text(source, "sku"),
        is_tracked=source.get("tracked") is not False,
        cost_cents=find_money(source, "cost", currency),
    )
    return [EntityUpdate(key, data)]


_FIND_IN_STOCK = """
select v.shop_id, v.id from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
 where exists (select from inventory_levels l where l.shop_id = v.shop_id and l.inventory_item_id = v.id)
    or exists (select from variants t where t.shop_id = v.shop_id and t.inventory_item_id = v.id)
"""


def _find_in_stock(tx: Connection, keys: Collection[EntityKey]) -> set[EntityKey]:
    if not keys:
        return set()
    found = tx.exec_driver_sql(_FIND_IN_STOCK, arrays("shop_id id", keys))
    return {(shop_id, number) for shop_id, number in found}


_SPEC = EntitySpec(
    name="inventory_item",
    table=inventory_items,
    make=_InventoryItem,
    audited=("sku", "is_tracked", "cost_cents"),
    blank=_InventoryItem("", True, None, EPOCH),
    lock=item_lock,
    find_elsewhere=_find_in_stock,
)


def _parse_stock(item: WorkItem, now: datetime) -> list[EntityUpdate[Any]]:
    source = read_event(item)
    is_in_stock = read_count(source, "inventory_quantity") > 0
    if is_in_stock != (item.event_topic == "variants/in_stock"):
        return []
    # The variant's own time does not change with its stock.
    data = _VariantStock(find_id(source, "product_id"), is_in_stock, item.event_time(now))
    return [EntityUpdate((item.shop_id, read_id(source, "id")), data)]


_STOCK = EntitySpec(name="variant_stock", table=variant_stock, make=_VariantStock, audited=("is_in_stock",))

ingest_variant_stock = EntityHandler(_STOCK, _parse_stock)
"""Both topics have the same payload: if its quantity contradicts the topic, the event is ``ignored``."""
