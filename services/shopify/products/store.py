"""The rows of variants: what is known, writing them, and deleting them with their product."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import instant_array, int_array, text_array
from services.shopify.merge import EntityKey
from services.shopify.products.payload import Variant, VariantKey, VariantState

_FIND = """
select t.shop_id, t.inventory_item_id, t.updated_at, t.sku, t.title, t.variant_id,
       coalesce(t.product_id, 0) as product_id
  from unnest(%(shop_id)s::int[], %(item)s::bigint[]) as v(shop_id, item)
  join variants t on t.shop_id = v.shop_id and t.inventory_item_id = v.item
"""

# A variant of a deleted product is born deleted: the product's row says so.
_UPSERT = """
insert into variants (shop_id, inventory_item_id, variant_id, product_id, sku, title, updated_at, deleted_at)
select v.*, p.deleted_at
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(variant_id)s::bigint[], %(product_id)s::bigint[],
              %(sku)s::text[], %(title)s::text[], %(updated_at)s::timestamptz[])
       as v(shop_id, item, variant_id, product_id, sku, title, updated_at)
  left join products p on p.shop_id = v.shop_id and p.product_id = v.product_id
on conflict (shop_id, inventory_item_id) do update set
   variant_id = excluded.variant_id, product_id = excluded.product_id, sku = excluded.sku,
   title = excluded.title, updated_at = excluded.updated_at, deleted_at = excluded.deleted_at
"""

_FIND_ITEMS_OF = """
select t.shop_id, t.inventory_item_id
  from unnest(%(shop_id)s::int[], %(product_id)s::bigint[]) as v(shop_id, product_id)
  join variants t on t.shop_id = v.shop_id and t.product_id = v.product_id
"""

_DELETE = """
update variants t set deleted_at = p.deleted_at
  from unnest(%(shop_id)s::int[], %(product_id)s::bigint[]) as v(shop_id, product_id)
  join products p on p.shop_id = v.shop_id and p.product_id = v.product_id
 where t.shop_id = v.shop_id and t.product_id = v.product_id and t.deleted_at is distinct from p.deleted_at
returning t.shop_id, t.inventory_item_id, t.variant_id, t.product_id, t.sku, t.deleted_at
"""


class DeletedVariant(NamedTuple):
    """A variant that is deleted since ``deleted_at``, as its product is."""

    product: EntityKey
    variant_id: int
    sku: str
    deleted_at: datetime


def find_variants(tx: Connection, keys: Collection[VariantKey]) -> dict[VariantKey, VariantState]:
    """Return those of the variants that have a row."""
    if not keys:
        return {}
    arrays = {"shop_id": int_array(s for s, _ in keys), "item": int_array(item for _, item in keys)}
    return {
        (r.shop_id, r.inventory_item_id): VariantState(
            r.updated_at, r.sku, r.title, r.variant_id, r.product_id
        )
        for r in tx.exec_driver_sql(_FIND, arrays)
    }


def find_items_of(tx: Connection, products: Collection[EntityKey]) -> set[VariantKey]:
    """Return the inventory items of the known variants of ``products``."""
    if not products:
        return set()
    return {(int(r[0]), int(r[1])) for r in tx.exec_driver_sql(_FIND_ITEMS_OF, _product_arrays(products))}


def record_variants(tx: Connection, variants: Sequence[Variant]) -> None:
    """Each variant stands as given. The caller holds its lock and its product's."""
    if not variants:
        return
    tx.exec_driver_sql(
        _UPSERT,
        {
            "shop_id": int_array(v.shop_id for v in variants),
            "item": int_array(v.inventory_item_id for v in variants),
            "variant_id": int_array(v.variant_id for v in variants),
            "product_id": int_array(v.product_id for v in variants),
            "sku": text_array([v.sku for v in variants]),
            "title": text_array([v.title for v in variants]),
            "updated_at": instant_array(v.updated_at for v in variants),
        },
    )


def delete_variants(tx: Connection, products: Collection[EntityKey]) -> dict[VariantKey, DeletedVariant]:
    """The variants of the deleted ``products`` are deleted as they are; return those that changed by it."""
    if not products:
        return {}
    rows = tx.exec_driver_sql(_DELETE, _product_arrays(products))
    return {(r[0], r[1]): DeletedVariant((r[0], r[3]), r[2], r[4], r[5]) for r in rows}


def _product_arrays(products: Collection[EntityKey]) -> dict[str, str]:
    return {"shop_id": int_array(s for s, _ in products), "product_id": int_array(p for _, p in products)}
