"""The canvas cache: the page of each phone number and mail address, in ``canvas_cache``.

An entry without a page is negative: Notion has no page for the address. Copies in Valkey are in front of it
(``cache_copies``); ``cache_lookup`` reads both, then Notion.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from services.conversations.addresses import is_mail, normalize_mail, normalize_phone
from services.conversations.merchants import Address, Merchant
from services.core.db import Page, fetch_page
from services.core.errors import InputInvalid
from services.core.pg_arrays import arrays, int_array, text_array

LIFE = timedelta(hours=24)
"""How long an entry is used after Notion was read."""
SHORTEST = timedelta(hours=6)
"""An entry with less time left counts as expiring: it is refreshed before."""
NEGATIVE_LIFE = timedelta(minutes=5)
PREFIX = "canvas:"
KINDS = ("phone:", "mail:")
LONGEST_SHORT_CODE = 6
"""Digits of a number without a country code, such as the sender of a bank's messages."""

# In the order of the keys.
_STORE = """
insert into canvas_cache (shop_id, address, merchant_id, page_id, checked_at, expires_at)
select %(shop_id)s, address, %(merchant_id)s, %(page_id)s, %(now)s, %(expires_at)s
  from unnest(%(address)s::text[]) as address order by address
on conflict (shop_id, address) do update set merchant_id = excluded.merchant_id, page_id = excluded.page_id,
   checked_at = excluded.checked_at, expires_at = excluded.expires_at
 where canvas_cache.checked_at <= excluded.checked_at
"""

_COLUMNS = "c.shop_id, c.address, c.merchant_id, c.page_id, c.checked_at, c.expires_at"

_FIND = f"""
select {_COLUMNS} from unnest(%(shop_id)s::int[], %(address)s::text[]) as v(shop_id, address)
  join canvas_cache c using (shop_id, address) where c.expires_at > %(now)s
"""  # noqa: S608 - constants only

_FIND_OF_MERCHANTS = f"""
select {_COLUMNS} from canvas_cache c
 where c.merchant_id = any(%(merchant_id)s::bigint[]) and c.expires_at > %(now)s and c.page_id <> ''
"""  # noqa: S608 - constants only

_KEY = f"'{PREFIX}' || case when c.address like '%%@%%' then 'mail:' else 'phone:' end || c.address"

_LIST = f"""
select {_COLUMNS} from canvas_cache c
 where (%(shop_id)s::int is null or c.shop_id = %(shop_id)s)
   and (starts_with({_KEY}, %(prefix)s) or starts_with({_KEY}, '{PREFIX}' || %(prefix)s)
        or starts_with(c.address, %(prefix)s))
 order by c.shop_id, c.address limit %(limit)s
"""  # noqa: S608 - constants only

_COUNT = """
select c.shop_id, count(*) as entries, count(*) filter (where c.page_id = '') as negative,
       count(*) filter (where c.expires_at <= %(now)s and c.page_id <> '') as stale,
       count(*) filter (
         where c.expires_at > %(now)s and c.expires_at <= %(soon)s and c.page_id <> '') as expiring,
       min(c.expires_at) filter (where c.page_id <> '') as first_expires_at,
       max(c.checked_at) as last_checked_at
  from canvas_cache c where %(shop_id)s::int is null or c.shop_id = %(shop_id)s
 group by c.shop_id order by c.shop_id
"""

_DELETE = """
delete from canvas_cache c where c.shop_id = %(shop_id)s and (
       c.address = any(%(address)s::text[]) or c.merchant_id in (
         select merchant_id from canvas_cache
          where shop_id = %(shop_id)s and address = any(%(address)s::text[]) and merchant_id <> 0))
returning c.address, c.merchant_id
"""


class CacheEntry(NamedTuple):
    """An entry. ``merchant_id`` 0: the address belongs to no merchant; ``page_id`` empty: it has no page."""

    shop_id: int
    address: str
    merchant_id: int
    page_id: str
    checked_at: datetime
    expires_at: datetime

    @property
    def key(self) -> str:
        return make_key(self.address)


class CacheCount(NamedTuple):
    """The entries of a shop; of those with a page, ``stale`` have expired, ``expiring`` expire soon."""

    shop_id: int
    entries: int
    negative: int
    stale: int
    expiring: int
    first_expires_at: datetime | None
    last_checked_at: datetime

    @property
    def stale_ratio(self) -> float:
        return self.stale / max(1, self.entries - self.negative)

    @property
    def expiring_ratio(self) -> float:
        return self.expiring / max(1, self.entries - self.negative)


def make_key(address: str) -> str:
    """Return the name of an entry: ``canvas:phone:+15551234567`` or ``canvas:mail:ada@example.com``."""
    return f"{PREFIX}{'mail' if is_mail(address) else 'phone'}:{address}"


def parse_key(text: str) -> str:
    """Return the address in a key, with or without ``canvas:`` and the kind; raise ``InputInvalid``."""
    plain = text.removeprefix(PREFIX).removeprefix("phone:").removeprefix("mail:")
    address = normalize_mail(plain) if "@" in plain else normalize_phone(plain)
    if not address:
        example = "canvas:phone:+15551234567 or canvas:mail:ada@example.com"
        raise InputInvalid(f"{text!r} should be a phone number or a mail address, such as {example}")
    if not is_mail(address) and not address.startswith("+") and len(address) > LONGEST_SHORT_CODE:
        raise InputInvalid(f"{text!r} should begin with + and the country code, such as +15551234567")
    return address


def parse_prefix(text: str) -> str:
    """Return the beginning of a key or address in lower case; raise ``InputInvalid`` for an unknown kind."""
    prefix = text.strip().lower()
    rest = prefix.removeprefix(PREFIX)
    is_kind = any(rest.startswith(kind) or kind.startswith(rest) for kind in KINDS)
    if not is_kind and (prefix.startswith(PREFIX) or ":" in prefix):
        known = " or ".join(f"{PREFIX}{kind}" for kind in KINDS)
        raise InputInvalid(f"{text!r} is the beginning of no key: each begins with {known}")
    return prefix


def store_page(tx: Connection, merchant: Merchant, page_id: str, now: datetime) -> None:
    """Store the page of all addresses of the merchant, as Notion answered ``now``; a later answer stays."""
    _store(tx, merchant.shop_id, merchant.addresses, merchant.id, page_id, now, now + LIFE)


def store_entry(tx: Connection, address: Address, merchant_id: int, page_id: str, now: datetime) -> None:
    """Store the page of one address, as ``store_page``; an empty ``page_id`` is kept for a short time."""
    expires_at = now + (LIFE if page_id else NEGATIVE_LIFE)
    _store(tx, address[0], [address[1]], merchant_id, page_id, now, expires_at)


def _store(
    tx: Connection, shop_id: int, addresses: Collection[str], merchant_id: int, page_id: str, now: datetime,
    expires_at: datetime,
) -> None:  # fmt: skip
    values = {
        "shop_id": shop_id, "merchant_id": merchant_id, "page_id": page_id, "now": now,
        "expires_at": expires_at, "address": text_array(sorted(addresses)),
    }  # fmt: skip
    tx.exec_driver_sql(_STORE, values)


def find_entries(tx: Connection, addresses: Iterable[Address], now: datetime) -> dict[Address, CacheEntry]:
    """Return the entries of the addresses that have one which is not expired."""
    rows = tx.exec_driver_sql(_FIND, arrays("shop_id address", sorted(addresses)) | {"now": now})
    return {(row.shop_id, row.address): CacheEntry._make(row) for row in rows}


def find_of_merchants(tx: Connection, merchant_ids: Collection[int], now: datetime) -> list[CacheEntry]:
    """Return the entries of the merchants that have a page and are not expired."""
    values = {"merchant_id": int_array(sorted(merchant_ids)), "now": now}
    return [CacheEntry._make(row) for row in tx.exec_driver_sql(_FIND_OF_MERCHANTS, values)]


def list_entries(
    tx: Connection, shop_id: int | None, prefix: str = "", limit: int | None = None
) -> Page[CacheEntry]:
    """Return entries, expired ones too, whose key or address begins with ``prefix``, by shop and address."""
    rows = fetch_page(tx, _LIST, limit, {"shop_id": shop_id, "prefix": prefix})
    page = Page(map(CacheEntry._make, rows))
    page.total = rows.total
    return page


def count_entries(tx: Connection, shop_id: int | None, now: datetime) -> list[CacheCount]:
    """Return the counts of the shop, or of each shop that has entries."""
    values = {"shop_id": shop_id, "now": now, "soon": now + SHORTEST}
    return [CacheCount._make(row) for row in tx.exec_driver_sql(_COUNT, values)]


def delete_entries(tx: Connection, shop_id: int, addresses: Collection[str]) -> dict[str, int]:
    """Delete the entries and all others of their merchants; return the merchant of each, by address."""
    values = {"shop_id": shop_id, "address": text_array(sorted(addresses))}
    return {row.address: row.merchant_id for row in tx.exec_driver_sql(_DELETE, values)}
