"""Goods and stock that we lack: products, inventory items, locations and levels, found in Shopify's lists."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.core.pg_arrays import int_array
from services.providers.delivery import find_dict, find_instant
from services.providers.shopify_pull_documents import (
    LIST_ITEMS,
    LIST_LEVELS,
    LIST_LOCATIONS,
    LIST_PRODUCTS,
    READ_PRODUCT_VARIANTS,
)
from services.shopify.backfill.node_fields import Node, number_of
from services.shopify.backfill.pager import Pager, since_query
from services.shopify.backfill.stock_nodes import (
    find_available,
    item_event,
    level_event,
    location_event,
    product_event,
)
from services.shopify.backfill.to_webhook import PulledEvent

_FIND_PRODUCTS = """
select v.id, p.updated_at from unnest(%(id)s::bigint[]) as v(id)
  join products p on p.shop_id = %(shop_id)s and p.product_id = v.id
"""

_FIND_VARIANTS = """
select v.id, t.updated_at from unnest(%(id)s::bigint[]) as v(id)
  join variants t on t.shop_id = %(shop_id)s and t.inventory_item_id = v.id
"""

_FIND_ITEMS = """
select v.id, i.updated_at from unnest(%(id)s::bigint[]) as v(id)
  join inventory_items i on i.shop_id = %(shop_id)s and i.inventory_item_id = v.id
"""

_FIND_LOCATIONS = """
select v.id, l.updated_at from unnest(%(id)s::bigint[]) as v(id)
  join locations l on l.shop_id = %(shop_id)s and l.location_id = v.id
"""

_FIND_LEVELS = """
select v.id, l.observed_at from unnest(%(id)s::bigint[]) as v(id)
  join inventory_levels l on l.shop_id = %(shop_id)s and l.inventory_item_id = v.id
                         and l.location_id = %(location_id)s
"""


def list_products(reader: Pager, since: datetime) -> Iterator[Sequence[Node]]:
    """Yield pages of the products changed since then, longest unchanged first, with all variants."""
    for page in reader.pages(LIST_PRODUCTS, {"query": since_query(since)}, "products"):
        yield [
            reader.finish(one, "variants", READ_PRODUCT_VARIANTS, "product", one["id"]) for one in page.nodes
        ]


def find_lacking_products(tx: Connection, shop_id: int, page: Sequence[Node]) -> list[PulledEvent]:
    """Return those of ``page`` of which the product, or one of its variants, is unknown or older with us."""
    products = _find_times(tx, _FIND_PRODUCTS, shop_id, [number_of(product["id"]) for product in page])
    variants = _find_times(tx, _FIND_VARIANTS, shop_id, [_item_of(v) for p in page for v in _variants(p)])
    return [
        product_event(product)
        for product in page
        if _is_newer(product, products.get(number_of(product["id"])))
        or any(_is_newer(v, variants.get(_item_of(v))) for v in _variants(product) if _item_of(v))
    ]


def list_items(reader: Pager, since: datetime) -> Iterator[Sequence[Node]]:
    """Yield pages of the inventory items changed since then."""
    for page in reader.pages(LIST_ITEMS, {"query": since_query(since)}, "inventoryItems"):
        yield page.nodes


def find_lacking_items(tx: Connection, shop_id: int, page: Sequence[Node]) -> list[PulledEvent]:
    """Return those inventory items of ``page`` that are unknown or older with us."""
    known = _find_times(tx, _FIND_ITEMS, shop_id, [number_of(item["id"]) for item in page])
    return [item_event(item) for item in page if _is_newer(item, known.get(number_of(item["id"])))]


def list_locations(reader: Pager) -> Iterator[Sequence[Node]]:
    """Yield pages of all the shop's locations: they are few, and cannot be searched by when they changed."""
    for page in reader.pages(LIST_LOCATIONS, {}, "locations"):
        yield page.nodes


def find_lacking_locations(tx: Connection, shop_id: int, page: Sequence[Node]) -> list[PulledEvent]:
    """Return those locations of ``page`` that are unknown or older with us."""
    known = _find_times(tx, _FIND_LOCATIONS, shop_id, [number_of(place["id"]) for place in page])
    return [location_event(place) for place in page if _is_newer(place, known.get(number_of(place["id"])))]


def list_levels(reader: Pager, location_gid: str, since: datetime) -> Iterator[Sequence[Node]]:
    """Yield pages of a location's levels that changed since then, in no order."""
    variables = {"location": location_gid, "query": since_query(since)}
    for page in reader.pages(LIST_LEVELS, variables, "location", "inventoryLevels"):
        yield page.nodes


def find_lacking_levels(
    tx: Connection, shop_id: int, location_gid: str, page: Sequence[Node]
) -> list[PulledEvent]:
    """Return those levels of ``page`` that are unknown, or were observed before Shopify changed them.

    One with our own figure enters too: what matters is the time of the observation, as a sale that is
    told late counts only if it came after it.
    """
    known = _find_times(
        tx,
        _FIND_LEVELS,
        shop_id,
        [number_of(level["item"]["id"]) for level in page],
        location_id=number_of(location_gid),
    )
    return [
        level_event(level, location_gid)
        for level in page
        if find_available(level) is not None and _is_newer(level, known.get(number_of(level["item"]["id"])))
    ]


def _find_times(
    tx: Connection, query: str, shop_id: int, numbers: Sequence[int], **more: Any
) -> dict[int, datetime]:
    """Return when what we have of each id was last changed."""
    values = {"shop_id": shop_id, "id": int_array(sorted(set(numbers))), **more}
    return {row[0]: row[1] for row in tx.exec_driver_sql(query, values)}


def _is_newer(node: Node, known: datetime | None) -> bool:
    updated_at = find_instant(node["updatedAt"])
    return known is None or updated_at is None or updated_at > known


def _variants(product: Node) -> Sequence[Node]:
    nodes: Sequence[Node] = product["variants"]["nodes"]
    return nodes


def _item_of(variant: Node) -> int:
    return number_of(find_dict(variant, "inventoryItem").get("id"))
