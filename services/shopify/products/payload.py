"""Parses a Shopify product and its variants. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from services.core.fields import Unreadable, find_instant, find_text, read_id, read_instant, read_list
from services.ledger.work import WorkItem
from services.shopify.entities import EntityKey, EntityUpdate
from services.shopify.payload import read_event
from services.shopify.tables import data_class, products

VariantKey = tuple[int, int]
"""(shop, inventory item)."""


Product = data_class(products)


class VariantState(NamedTuple):
    """A variant's columns. States are ordered by the time; the rest decides within the same second."""

    updated_at: datetime
    sku: str
    title: str
    variant_id: int
    product_id: int


class Variant(NamedTuple):
    """A variant in the event of ``item``."""

    item: WorkItem
    inventory_item_id: int
    state: VariantState

    @property
    def key(self) -> VariantKey:
        return (self.item.shop_id, self.inventory_item_id)

    @property
    def product_key(self) -> EntityKey:
        return (self.item.shop_id, self.state.product_id)


class ProductUpdate(NamedTuple):
    """One event of a product, with those of its variants that have an inventory item."""

    product: EntityUpdate[Any]
    variants: list[Variant]


def parse_product(item: WorkItem, now: datetime) -> ProductUpdate:
    """Return the product in ``item``'s event; raise ``Unreadable`` naming the field.

    A deletion contains only the id.
    """
    source = read_event(item)
    key = (item.shop_id, read_id(source, "id"))
    if item.event_topic == "products/delete":
        return ProductUpdate(EntityUpdate(key, deleted_at=item.event_time(now)), [])
    title = find_text(source, "title")
    variants = [
        _read_variant(item, key[1], variant, index, title)
        for index, variant in enumerate(read_list(source, "variants"))
        if variant.get("inventory_item_id") is not None
    ]
    updated_at = find_instant(source, "updated_at") or max(
        (variant.state.updated_at for variant in variants), default=item.event_time(now)
    )
    data = Product(
        title=title,
        status=find_text(source, "status"),
        product_type=find_text(source, "product_type"),
        tags=_read_tags(source),
        updated_at=updated_at,
    )
    return ProductUpdate(EntityUpdate(key, data), variants)


def _read_tags(source: Mapping[str, Any]) -> str:
    """Return the tags separated by commas; in the Admin API they are a list."""
    tags = source.get("tags")
    if isinstance(tags, list):
        return ", ".join(tag.replace("\0", "") for tag in tags if isinstance(tag, str))
    return find_text(source, "tags")


def _read_variant(
    item: WorkItem, product_id: int, variant: Mapping[str, Any], index: int, title: str
) -> Variant:
    try:
        own = find_text(variant, "title")
        state = VariantState(
            updated_at=read_instant(variant, "updated_at"),
            sku=find_text(variant, "sku"),
            title=f"{title} / {own}" if own else title,
            variant_id=read_id(variant, "id"),
            product_id=product_id,
        )
        return Variant(item, read_id(variant, "inventory_item_id"), state)
    except Unreadable as fault:
        raise fault.within(f"variants[{index}]") from None
