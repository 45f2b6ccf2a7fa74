"""Audit summaries of variants. Pure.

They name ids and skus. A title is free text, so a summary says only that it changed.
"""

from typing import Any

from services.audit.chain import Mutation
from services.shopify.products.payload import VariantState


def describe_variant(
    inventory_item_id: int, variant_id: int, old: VariantState | None, new: VariantState
) -> Mutation:
    """Return the mutation of a variant that is new, or changed from ``old`` to ``new``."""
    label, row_id = f"variant {variant_id}", str(inventory_item_id)
    if old is None:
        created = {"sku": new.sku, "variant_id": variant_id}
        return Mutation("variants", row_id, f"{label} recorded: {_sku_text(new.sku)}", None, created)
    before: dict[str, Any] = {"updated_at": old.updated_at}
    after: dict[str, Any] = {"updated_at": new.updated_at}
    changes = []
    if old.sku != new.sku:
        before["sku"], after["sku"] = old.sku, new.sku
        changes.append(f"{_sku_text(old.sku)} -> {_sku_text(new.sku)}")
    if old.title != new.title:
        changes.append("title changed")
    summary = f"{label}: {', '.join(changes) or 'received again, only updated_at changed'}"
    return Mutation("variants", row_id, summary, before, after)


def _sku_text(sku: str) -> str:
    return f"sku {sku}" if sku else "no sku"
