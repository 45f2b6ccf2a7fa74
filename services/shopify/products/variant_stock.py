"""Whether a variant can be bought: ``variants/in_stock`` and ``variants/out_of_stock``.

A table of its own, by the variant's id: the payload is that of a variant without its product's title and, in
Shopify's sample of 2026-07, without its inventory item, which is the key of ``variants``. The variant itself
is in ``products/update``.
"""

from datetime import datetime
from typing import Any, NamedTuple

from services.core.fields import find_id, read_count, read_id
from services.ledger.work import WorkItem
from services.shopify.entities import EntityHandler, EntitySpec, EntityUpdate
from services.shopify.logistics.tables import variant_stock
from services.shopify.payload import read_event


class VariantStock(NamedTuple):
    """Whether a variant is in stock for the app's channel.

    ``updated_at`` is the time of the event: the variant's own does not change with its stock.
    """

    updated_at: datetime
    is_in_stock: bool
    product_id: int | None

    @property
    def version(self) -> tuple[Any, ...]:
        """The time; of two of one time, in stock wins."""
        return (self.updated_at, self.is_in_stock, self.product_id or 0)


def _parse(item: WorkItem, now: datetime) -> list[EntityUpdate[VariantStock]]:
    source = read_event(item)
    is_in_stock = read_count(source, "inventory_quantity") > 0
    if is_in_stock != (item.event_topic == "variants/in_stock"):
        return []
    data = VariantStock(item.event_time(now), is_in_stock, find_id(source, "product_id"))
    return [EntityUpdate((item.shop_id, read_id(source, "id")), data)]


_SPEC = EntitySpec(name="variant_stock", table=variant_stock, make=VariantStock, audited=("is_in_stock",))

ingest_variant_stock = EntityHandler(_SPEC, _parse)
"""Both topics have the same payload: where its quantity contradicts the topic the event is ``ignored``."""
