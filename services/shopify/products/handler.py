"""Products and their variants: which SKU an inventory item has, and so which levels an order takes from."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import read_set
from services.core.locks import Lock, lock_objects
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem
from services.shopify.entities import EPOCH, EntitySpec, upsert_parsed
from services.shopify.products.audit_text import describe_variant
from services.shopify.products.payload import Product, ProductUpdate, Variant, VariantKey, parse_product
from services.shopify.products.store import delete_variants, find_items_of, find_variants, record_variants
from services.shopify.stock.align_levels import align_levels
from services.shopify.stock.audit_text import describe_alignment
from services.shopify.stock.levels import item_lock
from services.shopify.stock.push_plan import PushCause, plan_pushes
from services.shopify.tables import products


def ingest_products(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert products and variants; the levels of a variant follow its SKU.

    ``stale`` where the product and each of its variants is known in a newer state. A variant without an
    inventory item has no stock and is ignored. The variants of a deleted product are deleted with it and
    their levels are disconnected, for good: Shopify never uses an id twice.
    """
    parsed = read_set(items, lambda item: parse_product(item, now), _SPEC.unreadable)
    result = upsert_parsed(
        tx, items, [[one.product] if isinstance(one, ProductUpdate) else one for one in parsed], _SPEC
    )
    newest: dict[VariantKey, Variant] = {}
    for one in parsed:
        for variant in one.variants if isinstance(one, ProductUpdate) else ():
            if variant.key not in newest or variant.version > newest[variant.key].version:
                newest[variant.key] = variant
    deleted_by = {
        key: item for key, item in result.changed.items() if result.after[key].deleted_at is not None
    }
    locks = newest.keys() | find_items_of(tx, deleted_by)
    lock_objects(tx, {(shop_id, item_lock(item)) for shop_id, item in locks})
    known = find_variants(tx, newest)
    won = {k: v for k, v in newest.items() if k not in known or v.version > known[k]}
    record_variants(tx, list(won.values()), {key: row.deleted_at for key, row in result.after.items()})
    deleted = delete_variants(tx, deleted_by)

    of_item = {key: deleted_by[row.product].id for key, row in deleted.items()}
    of_item |= {key: variant.work_id for key, variant in won.items()}
    alignment = align_levels(tx, of_item.keys(), now)
    causes = {(variant.shop_id, variant.sku): variant.cause for variant in won.values()}
    for key, row in deleted.items():
        causes.setdefault(
            (key[0], row.sku), PushCause(deleted_by[row.product].event_id, deleted_by[row.product].request_id)
        )

    for key, variant in won.items():
        mutation = describe_variant(
            variant.inventory_item_id, variant.variant_id, known.get(key), variant.version
        )
        result.mutations[variant.work_id].append(mutation)
    for key, row in deleted.items():
        mutation = _describe_deleted(key, row.variant_id, row.deleted_at)
        result.mutations[deleted_by[row.product].id].append(mutation)
    describe_alignment(result.mutations, alignment, of_item, {})

    current = known | {key: variant.version for key, variant in won.items()}

    def settle(one: ProductUpdate | Refused, of_product: Outcome) -> Outcome:
        if isinstance(one, Refused) or of_product != Done("stale"):
            return of_product
        return Done() if any(v.version == current[v.key] for v in one.variants) else of_product

    result = result._replace(outcomes=list(map(settle, parsed, result.outcomes)))
    return result.to_handler_result(items, plan_pushes(tx, alignment.to_push, causes, now))


def _describe_deleted(key: VariantKey, variant_id: int, deleted_at: datetime) -> Mutation:
    summary = f"variant {variant_id}: deleted with its product"
    return Mutation("variants", str(key[1]), summary, {"deleted_at": None}, {"deleted_at": deleted_at})


_SPEC = EntitySpec(
    name="product",
    table=products,
    make=Product,
    audited=("status", "product_type"),
    blank=Product(EPOCH, "", ""),
    lock_kind=Lock.PRODUCTS,
)
