"""Merchants: who a shop has calls, messages and mails with, by phone number and mail address."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from services.conversations.addresses import is_mail
from services.core.pg_arrays import arrays, int_array, text_array

Address = tuple[int, str]
"""Shop id, and a normalized phone number or mail address."""

# A shop is connected once it has a key and a data source: until then its calls and messages are only stored.
_FIND_CONNECTED = """
select c.shop_id from shop_config c
 where c.shop_id = any(%(shop_id)s::int[]) and c.notion_data_source <> '' and exists (
       select from shop_secrets s
        where s.shop_id = c.shop_id and s.name = 'notion-key' and s.expires_at is null)
"""

_FIND_BY_ADDRESS = """
select id, shop_id, phones || mails as addresses, used_addresses from merchants
 where (phones && %(address)s::text[] or mails && %(address)s::text[]) and shop_id = any(%(shop_id)s::int[])
 order by id
"""

_INSERT = """
insert into merchants (shop_id, phones, mails, used_addresses, created_at, changed_at)
select shop_id, case when address like '%%@%%' then '{}' else array[address] end,
       case when address like '%%@%%' then array[address] else '{}' end, array[address], %(now)s, %(now)s
  from unnest(%(shop_id)s::int[], %(address)s::text[]) as v(shop_id, address) order by shop_id, address
returning shop_id, (phones || mails)[1] as address, id
"""

_ADD_USED = "update merchants set used_addresses = used_addresses || %(address)s::text where id = %(id)s"

_FIND = """
select id, shop_id, uuid, name, phones, mails, page_id, page_values, page_attempted_at,
       redacted_at is not null as is_redacted from merchants where id = any(%(id)s::bigint[])
"""


class Merchant(NamedTuple):
    """A row of ``merchants``."""

    id: int
    shop_id: int
    uuid: UUID
    name: str
    phones: list[str]
    mails: list[str]
    page_id: str
    page_values: str
    page_attempted_at: datetime | None
    is_redacted: bool

    @property
    def addresses(self) -> list[str]:
        return [*self.phones, *self.mails]


def find_connected_shops(tx: Connection, shop_ids: Collection[int]) -> set[int]:
    """Return those of the shops that have a notion-key and a data source."""
    return set(tx.exec_driver_sql(_FIND_CONNECTED, {"shop_id": int_array(sorted(shop_ids))}).scalars())


def make_lock(address: Address) -> Address:
    """Return the object to lock before a merchant with ``address`` is read or inserted."""
    return address[0], f"address:{address[1]}"


def assign_merchants(
    tx: Connection, addresses: Collection[Address], now: datetime
) -> tuple[dict[Address, int], set[int]]:
    """Return the merchant of each address, and the ids of those that are new.

    The caller holds the locks of ``make_lock``: two events of a new number do not become two merchants.
    """
    if not addresses:
        return {}, set()
    values = {
        "shop_id": int_array(sorted({shop_id for shop_id, _ in addresses})),
        "address": text_array(sorted({address for _, address in addresses})),
    }
    found: dict[Address, int] = {}
    for row in tx.exec_driver_sql(_FIND_BY_ADDRESS, values).all():
        for address in row.addresses:
            is_first = found.setdefault((row.shop_id, address), row.id) == row.id
            if is_first and (row.shop_id, address) in addresses and address not in row.used_addresses:
                tx.exec_driver_sql(_ADD_USED, {"id": row.id, "address": address})
    missing = sorted(set(addresses) - set(found))
    new = {}
    if missing:
        rows = tx.exec_driver_sql(_INSERT, arrays("shop_id address", missing) | {"now": now})
        new = {(row.shop_id, row.address): row.id for row in rows}
    return {address: (found | new)[address] for address in addresses}, set(new.values())


def find_merchants(tx: Connection, ids: Collection[int]) -> Mapping[int, Merchant]:
    """Return the merchants with these ids, by id."""
    rows = tx.exec_driver_sql(_FIND, {"id": int_array(sorted(ids))})
    return {row.id: Merchant._make(row) for row in rows}


def find_by_addresses(tx: Connection, addresses: Collection[Address]) -> dict[Address, Merchant]:
    """Return the merchant of each address that has one."""
    values = {
        "shop_id": int_array(sorted({shop_id for shop_id, _ in addresses})),
        "address": text_array(sorted({address for _, address in addresses})),
    }
    ids: dict[Address, int] = {}
    for row in tx.exec_driver_sql(_FIND_BY_ADDRESS, values):
        for address in row.addresses:
            ids.setdefault((row.shop_id, address), row.id)
    found = find_merchants(tx, set(ids.values()))
    return {address: found[ids[address]] for address in addresses if address in ids}


def make_key(merchant_id: int) -> str:
    """Return the key of work that only one worker at a time may do for a merchant."""
    return f"merchant:{merchant_id}"


def read_merchant_id(key: str) -> int:
    """Return the id in a key of ``make_key``; 0 for another key."""
    kind, _, number = key.partition(":")
    return int(number) if kind == "merchant" and number.isascii() and number.isdecimal() else 0


def split_addresses(addresses: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the phone numbers and the mail addresses among ``addresses``."""
    return [one for one in addresses if not is_mail(one)], [one for one in addresses if is_mail(one)]
