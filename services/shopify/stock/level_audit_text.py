"""What the audit says where levels follow their items. Pure."""

from collections.abc import Mapping

from services.audit.chain import Mutation
from services.ledger.describe import Change
from services.shopify.stock.align_levels import Alignment
from services.shopify.stock.audit_text import (
    describe_disconnection,
    describe_level_change,
    describe_sku_change,
)
from services.shopify.stock.levels import ItemKey, SkuKey


def describe_alignment(
    said: dict[int, list[Mutation]],
    alignment: Alignment,
    of_item: Mapping[ItemKey, int],
    of_sku: Mapping[SkuKey, int],
) -> None:
    """Add to ``said``, by work item, each level that follows its item, and those that share its sku."""
    causes: dict[SkuKey, int] = dict(of_sku)
    figures = {shift.level: shift.after for shift in alignment.recounted}
    for one in alignment.aligned:
        level = one.level
        work_id = of_item[level.shop_id, level.inventory_item_id]
        causes[level.shop_id, one.old_sku] = causes[level.shop_id, level.sku] = work_id
        mine = said.setdefault(work_id, [])
        if one.old_gone_at != one.gone_at:
            mine.append(describe_disconnection(level, one.old_gone_at, one.gone_at))
        if one.old_sku != level.sku:
            figure = Change(one.figure.before, figures.pop(level, one.figure.after))
            mine.append(describe_sku_change(level, one.old_sku, figure))
    for shift in alignment.recounted:
        if shift.level in figures:
            level = shift.level
            work_id = of_item.get(level[:2]) or causes[level.shop_id, level.sku]
            said.setdefault(work_id, []).append(describe_level_change(shift, "a new count of its item"))
