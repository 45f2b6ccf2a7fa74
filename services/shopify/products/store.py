"""SQL of variants: find, write, and delete with their product."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from services.core.pg_arrays import arrays, find_by_key, upsert_rows
from services.shopify.entities import EntityKey
from services.shopify.products.payload import Variant, VariantKey, VariantState
from services.shopify.tables import variants as variants_table

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
returning t.shop_id, t.inventory_item_id, t.variant_id, t.product_id, t.deleted_at
"""


def find_variants(tx: Connection, keys: Collection[VariantKey]) -> dict[VariantKey, VariantState]:
    return {
        key: VariantState(
            row["updated_at"], row["sku"], row["title"], row["variant_id"], row["product_id"] or 0
        )
        for key, row in find_by_key(tx, variants_table, keys).items()
    }


def find_items_of(tx: Connection, products: Collection[EntityKey]) -> set[VariantKey]:
    if not products:
        return set()
    found = tx.exec_driver_sql(_FIND_ITEMS_OF, arrays("shop_id product_id", products))
    return {(shop_id, item) for shop_id, item in found}


def record_variants(
    tx: Connection, variants: Sequence[Variant], deleted_at: Mapping[EntityKey, datetime | None]
) -> None:
    """Write ``variants``; those of a product with a time in ``deleted_at`` are deleted at that time.

    The caller has locked the variants and their products.
    """
    if variants:
        columns: dict[str, Sequence[Any]] = {
            "shop_id": [variant.item.shop_id for variant in variants],
            "inventory_item_id": [variant.inventory_item_id for variant in variants],
            **{name: [getattr(variant.state, name) for variant in variants] for name in VariantState._fields},
            "deleted_at": [deleted_at.get(variant.product_key) for variant in variants],
        }
        upsert_rows(tx, variants_table, columns)


def delete_variants(tx: Connection, products: Collection[EntityKey]) -> Sequence[Row[Any]]:
    """Delete the variants of the deleted ``products``; return the changed rows."""
    return tx.exec_driver_sql(_DELETE, arrays("shop_id product_id", products)).all() if products else ()
