"""Parse a Shopify product and its variants. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from services.core.fields import (
    Unreadable,
    find_instant,
    find_text,
    read_id,
    read_instant,
    read_list,
)
from services.ledger.work import WorkItem
from services.shopify.entities import EntityKey, EntityUpdate
from services.shopify.payload import read_event

VariantKey = tuple[int, int]
"""(shop, inventory item)."""


class Product(NamedTuple):
    """A product. ``status`` is Shopify's (``active``, ``draft``...), ``tags`` are separated by commas."""

    updated_at: datetime
    title: str
    status: str
    product_type: str = ""
    tags: str = ""

    @property
    def version(self) -> tuple[Any, ...]:
        """What makes one state newer; the texts only decide between states of one and the same second."""
        return tuple(self)


class VariantState(NamedTuple):
    """What makes one state of a variant newer; the rest decides between states of the same second."""

    updated_at: datetime
    sku: str
    title: str
    variant_id: int
    product_id: int


class Variant(NamedTuple):
    """A variant in one event."""

    shop_id: int
    inventory_item_id: int
    variant_id: int
    product_id: int
    sku: str
    title: str
    updated_at: datetime
    work_id: int

    @property
    def key(self) -> VariantKey:
        """The inventory item."""
        return (self.shop_id, self.inventory_item_id)

    @property
    def product_key(self) -> EntityKey:
        """The product."""
        return (self.shop_id, self.product_id)

    @property
    def version(self) -> VariantState:
        """What orders the states of a variant."""
        return VariantState(self.updated_at, self.sku, self.title, self.variant_id, self.product_id)


class ProductUpdate(NamedTuple):
    """One event of a product, with those of its variants that have an inventory item."""

    product: EntityUpdate[Product]
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
        _read_variant(item, key[1], variant, place, title)
        for place, variant in enumerate(read_list(source, "variants"))
        if variant.get("inventory_item_id") is not None
    ]
    updated_at = find_instant(source, "updated_at") or max(
        (variant.updated_at for variant in variants), default=item.event_time(now)
    )
    data = Product(
        updated_at, title, find_text(source, "status"), find_text(source, "product_type"), _read_tags(source)
    )
    return ProductUpdate(EntityUpdate(key, data), variants)


def _read_tags(source: Mapping[str, Any]) -> str:
    """Return the tags separated by commas; the Admin API has them as a list."""
    tags = source.get("tags")
    if isinstance(tags, list):
        return ", ".join(tag.replace("\0", "") for tag in tags if isinstance(tag, str))
    return find_text(source, "tags")


def _read_variant(
    item: WorkItem, product_id: int, variant: Mapping[str, Any], place: int, title: str
) -> Variant:
    try:
        return Variant(
            shop_id=item.shop_id,
            inventory_item_id=read_id(variant, "inventory_item_id"),
            variant_id=read_id(variant, "id"),
            product_id=product_id,
            sku=find_text(variant, "sku"),
            title=f"{title} / {own}" if (own := find_text(variant, "title")) else title,
            updated_at=read_instant(variant, "updated_at"),
            work_id=item.id,
        )
    except Unreadable as fault:
        raise fault.within(f"variants[{place}]") from None
