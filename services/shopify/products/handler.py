"""Handler of products and their variants, which give the SKU of an inventory item."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import parse_items
from services.core.locks import LockKind, lock_objects
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem
from services.shopify.entities import EPOCH, EntitySpec, upsert_parsed
from services.shopify.products.payload import (
    Product,
    ProductUpdate,
    Variant,
    VariantKey,
    VariantState,
    parse_product,
)
from services.shopify.products.store import delete_variants, find_items_of, find_variants, record_variants
from services.shopify.stock.level_sku_sync import sync_level_skus
from services.shopify.stock.levels import item_lock
from services.shopify.tables import products


def ingest_products(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert products and variants, and set the SKU of each variant on its levels.

    The outcome is ``stale`` if the product and all its variants are recorded in a newer state. A variant
    without an inventory item has no stock and is ignored. The variants of a deleted product are deleted too,
    and their levels are disconnected: this is final, because Shopify never reuses an id.
    """
    parsed = parse_items(items, lambda item: parse_product(item, now), _SPEC.unreadable)
    result = upsert_parsed(
        tx, items, [[event.product] if isinstance(event, ProductUpdate) else event for event in parsed], _SPEC
    )
    newest: dict[VariantKey, Variant] = {}
    for event in parsed:
        for variant in event.variants if isinstance(event, ProductUpdate) else ():
            if variant.key not in newest or variant.state > newest[variant.key].state:
                newest[variant.key] = variant
    deleted_by = {
        key: item for key, item in result.changed.items() if result.after[key].deleted_at is not None
    }
    locks = newest.keys() | find_items_of(tx, deleted_by)
    lock_objects(tx, {(shop_id, item_lock(item)) for shop_id, item in locks})
    known = find_variants(tx, newest)
    newer = {k: v for k, v in newest.items() if k not in known or v.state > known[k]}
    record_variants(tx, list(newer.values()), {key: row.deleted_at for key, row in result.after.items()})
    of_item: dict[VariantKey, WorkItem] = {}
    for key, variant in newer.items():
        of_item[key] = variant.item
        result.mutations[variant.item.id].append(_describe_variant(variant, known.get(key)))
    for row in delete_variants(tx, deleted_by):
        item = deleted_by[row.shop_id, row.product_id]
        of_item.setdefault((row.shop_id, row.inventory_item_id), item)
        row_id, after = str(row.inventory_item_id), {"deleted_at": row.deleted_at}
        summary = f"variant {row.variant_id}: deleted with its product"
        result.mutations[item.id].append(Mutation("variants", row_id, summary, {"deleted_at": None}, after))
    pushes = sync_level_skus(tx, of_item, result.mutations, now)

    current = known | {key: variant.state for key, variant in newer.items()}

    def settle(event: ProductUpdate | Refused, of_product: Outcome) -> Outcome:
        if isinstance(event, Refused) or of_product != Done("stale"):
            return of_product
        return Done() if any(v.state == current[v.key] for v in event.variants) else of_product

    result = result._replace(outcomes=list(map(settle, parsed, result.outcomes)))
    return result.to_handler_result(items, pushes)


def _describe_variant(variant: Variant, old: VariantState | None) -> Mutation:
    """Return the mutation of ``variant``: ids and skus, not the title, which is free text."""
    new = variant.state
    label, row_id = f"variant {new.variant_id}", str(variant.inventory_item_id)
    if old is None:
        created = {"sku": new.sku, "variant_id": new.variant_id}
        return Mutation("variants", row_id, f"{label} recorded: {_format_sku(new.sku)}", None, created)
    before: dict[str, Any] = {"updated_at": old.updated_at}
    after: dict[str, Any] = {"updated_at": new.updated_at}
    changes = []
    if old.sku != new.sku:
        before["sku"], after["sku"] = old.sku, new.sku
        changes.append(f"{_format_sku(old.sku)} -> {_format_sku(new.sku)}")
    if old.title != new.title:
        changes.append("title changed")
    summary = f"{label}: {', '.join(changes) or 'received again, only updated_at changed'}"
    return Mutation("variants", row_id, summary, before, after)


def _format_sku(sku: str) -> str:
    return f"sku {sku}" if sku else "no sku"


_SPEC = EntitySpec(
    name="product",
    table=products,
    make=Product,
    audited=("status", "product_type"),
    blank=Product("", "", "", "", EPOCH),
    lock_kind=LockKind.PRODUCTS,
)
