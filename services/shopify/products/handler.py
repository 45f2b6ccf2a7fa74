"""Products: which sku an inventory item carries, and so which levels an order's lines come from."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import read_set
from services.core.locks import Lock, lock_objects
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem
from services.shopify.merge import EPOCH
from services.shopify.products.audit_text import describe_variant
from services.shopify.products.payload import Product, ProductUpdate, Variant, VariantKey, read_product
from services.shopify.products.store import delete_variants, find_items_of, find_variants, record_variants
from services.shopify.stock.align_levels import align_levels
from services.shopify.stock.handler import item_lock
from services.shopify.stock.level_audit_text import describe_alignment
from services.shopify.stock.push_plan import PushCause, plan_pushes
from services.shopify.upsert import EntitySpec, upsert_updates


def ingest_products(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every product and variant stands as its newest event told it, and its levels count by its sku.

    Verdict ``stale`` where the product and each variant told of are known in a newer state. A variant
    without an inventory item has no stock and is passed over. A deleted product's variants are deleted
    with it, and their levels are off the shelf: for good, since Shopify never uses an id twice.
    """
    read = read_set(items, lambda item: read_product(item, now), _KIND.code)
    products = upsert_updates(
        tx, items, [e.product if isinstance(e, ProductUpdate) else e for e in read], _KIND
    )
    newest: dict[VariantKey, Variant] = {}
    for entry in read:
        for variant in entry.variants if isinstance(entry, ProductUpdate) else ():
            if variant.key not in newest or variant.version > newest[variant.key].version:
                newest[variant.key] = variant
    gone = {key: item for key, item in products.changed.items() if products.rows[key].deleted_at is not None}
    lock_objects(
        tx, {(shop_id, item_lock(item)) for shop_id, item in newest.keys() | find_items_of(tx, gone)}
    )
    known = find_variants(tx, newest)
    won = {k: v for k, v in newest.items() if k not in known or v.version > known[k]}
    record_variants(tx, list(won.values()))
    deleted = delete_variants(tx, gone)

    of_item = {key: gone[row.product].id for key, row in deleted.items()}
    of_item |= {key: variant.work_id for key, variant in won.items()}
    alignment = align_levels(tx, of_item.keys(), now)
    causes = {(variant.shop_id, variant.sku): variant.cause for variant in won.values()}
    for key, row in deleted.items():
        causes.setdefault(
            (key[0], row.sku), PushCause(gone[row.product].event_id, gone[row.product].request_id)
        )

    said = products.said
    for key, variant in won.items():
        mutation = describe_variant(
            variant.inventory_item_id, variant.variant_id, known.get(key), variant.version
        )
        said.setdefault(variant.work_id, []).append(mutation)
    for key, row in deleted.items():
        said.setdefault(gone[row.product].id, []).append(_say_deleted(key, row.variant_id, row.deleted_at))
    describe_alignment(said, alignment, of_item, {})

    def settle(entry: ProductUpdate | Refused, of_product: Outcome) -> Outcome:
        if isinstance(entry, Refused) or of_product != Done("stale"):
            return of_product
        fresh = [
            v for v in entry.variants if v.version == (won[v.key].version if v.key in won else known[v.key])
        ]
        return Done() if fresh else Done("stale")

    products.outcomes[:] = map(settle, read, products.outcomes)
    return products.effects(items, plan_pushes(tx, alignment.to_push, causes, now))


def _say_deleted(key: VariantKey, variant_id: int, deleted_at: datetime) -> Mutation:
    summary = f"variant {variant_id}: deleted with its product"
    return Mutation("variants", str(key[1]), summary, {"deleted_at": None}, {"deleted_at": deleted_at})


_FIND = """
select t.shop_id, t.product_id, t.deleted_at, t.updated_at, t.title, t.status, t.product_type, t.tags
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join products t on t.shop_id = v.shop_id and t.product_id = v.id
"""

_WRITE = """
insert into products (shop_id, product_id, deleted_at, updated_at, title, status, product_type, tags)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(deleted_at)s::timestamptz[],
                     %(updated_at)s::timestamptz[], %(title)s::text[], %(status)s::text[],
                     %(product_type)s::text[], %(tags)s::text[])
on conflict (shop_id, product_id) do update set
   deleted_at = excluded.deleted_at, updated_at = excluded.updated_at, title = excluded.title,
   status = excluded.status, product_type = excluded.product_type, tags = excluded.tags
"""

_KIND = EntitySpec(
    table="products",
    noun="product",
    code="shopify.unreadable_product",
    find=_FIND,
    make=Product,
    write=_WRITE,
    columns={
        "updated_at": "timestamptz",
        "title": "text",
        "status": "text",
        "product_type": "text",
        "tags": "text",
    },
    blank=Product(EPOCH, "", ""),
    shown=("status", "product_type"),
    lock=lambda number: f"product:{number}",
    lock_kind=Lock.PRODUCTS,
)
