"""A shop's stock is counted at another location: every level follows at once, not at its next webhook."""

from datetime import datetime

from sqlalchemy import Connection

from services.audit.append import append_audit
from services.ledger.accept import record_work
from services.storefront.levels import recount_shop
from services.storefront.push_plan import Cause, plan_pushes
from services.storefront.said_stock import say_shift


def record_relocation(tx: Connection, shop_id: int, now: datetime, *, by: str, request_id: str) -> int:
    """Every level of the shop counts as ``shop_config.stock_location_id`` asks; return how many changed.

    Their pushes are planned, and the audit says each change. Safe to repeat: what is right already stays.
    In a transaction of its own: stock is locked before an audit chain, everywhere.
    """
    shifts = recount_shop(tx, shop_id, now)
    if not shifts:
        return 0
    levels = [shift.level for shift in shifts if shift.is_on_shelf]
    cause = Cause(request_id=request_id)
    record_work(tx, plan_pushes(tx, levels, {(shop_id, level.sku): cause for level in levels}), now)
    append_audit(
        tx,
        shop_id=shop_id,
        staff_label=by,
        action="stock.relocate",
        request_id=request_id,
        now=now,
        mutations=[say_shift(shift, "the shop's stock location was set") for shift in shifts],
    )
    return len(shifts)
