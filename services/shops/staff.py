"""Names of a shop's staff by Shopify's number, in ``shop_config.settings -> 'staff'``."""

import re
from collections.abc import Mapping
from datetime import datetime

import orjson
from sqlalchemy import Connection

from services.audit.append import AuditEntry, Mutation, append_all
from services.core.errors import join_faults
from services.shops.shops import ShopInvalid, get_shop

_FIND = """
select coalesce(settings -> 'staff', '{}'::jsonb) from shop_config where shop_id = %(shop_id)s for update
"""

_RECORD = """
insert into shop_config as c (shop_id, settings)
values (%(shop_id)s, jsonb_build_object('staff', %(staff)s::jsonb))
on conflict (shop_id) do update set settings = c.settings || excluded.settings
"""


def find_staff(tx: Connection, slug: str) -> dict[str, str]:
    """Return the names by number; raise ``ShopUnknown``."""
    shop_id = get_shop(tx, slug).id
    return dict(tx.exec_driver_sql(_FIND, {"shop_id": shop_id}).scalar() or {})


def record_staff(
    tx: Connection, slug: str, names: Mapping[str, str], now: datetime, *, by: str, request_id: str
) -> dict[str, str]:
    """Set the name of each number, or delete it if the name is empty; return all names.

    The audit has the numbers and not the names, as its rows are never redacted. Raises ``ShopInvalid``.
    """
    faults = [
        f"staff {number!r} should be digits only"
        for number in names
        if not re.fullmatch("[0-9]{1,20}", number)
    ]
    faults += [
        f"name {name!r} should be at most 100 printable characters"
        for name in names.values()
        if len(name) > 100 or not name.isprintable()
    ]
    if faults:
        raise ShopInvalid(join_faults(faults))
    shop_id = get_shop(tx, slug).id
    before = find_staff(tx, slug)
    after = {number: name for number, name in {**before, **names}.items() if name}
    if after == before:
        return before
    tx.exec_driver_sql(_RECORD, {"shop_id": shop_id, "staff": orjson.dumps(after).decode()})
    changed = sorted(number for number in {*before, *after} if before.get(number) != after.get(number))
    mutation = Mutation("shop_config", str(shop_id), f"named staff {', '.join(changed)} of {slug}")
    append_all(tx, [AuditEntry(shop_id, by, "shop.staff", request_id, [mutation])], now)
    return after
