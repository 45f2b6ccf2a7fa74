"""Reads the canvas cache: Valkey, then the database, then Notion. Joins concurrent reads of one address."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple
from weakref import WeakValueDictionary

from sqlalchemy import Connection

from services.audit.append import append_change
from services.conversations.access import NotionAccess, find_notion_access
from services.conversations.cache import CacheEntry, find_entries, find_of_merchants, store_entry, store_page
from services.conversations.cache_copies import begin_loading, end_loading, read_copies, write_copies
from services.conversations.merchants import Address, Merchant, find_by_addresses
from services.conversations.page_store import forget_page, record_page
from services.conversations.pages import FoundPage, find_page
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, Refused
from services.providers.notion import NOT_FOUND

JOIN_SECONDS = 15.0
"""The longest wait for another process that reads Notion for the same address."""
_POLL_SECONDS = 0.05
_locks: "WeakValueDictionary[Address, threading.Lock]" = WeakValueDictionary()
_guard = threading.Lock()


class CacheHit(NamedTuple):
    """An entry, and where it was found: ``valkey``, ``database`` or ``notion``."""

    entry: CacheEntry
    source: str


def find_fresh(tx: Connection, merchants: Mapping[int, Merchant], now: datetime) -> set[int]:
    """Return those of the merchants whose page is cached and not expired.

    Reads Valkey, and the database for what it lacks, which is copied then. An entry with another page than
    the merchant's counts as none.
    """
    known = {
        (one.shop_id, one.addresses[0]): one for one in merchants.values() if one.page_id and one.addresses
    }
    copies = read_copies(known, now)
    fresh = {one.id for key, one in known.items() if key in copies and copies[key].page_id == one.page_id}
    if missing := {one.id for one in known.values()} - fresh:
        rows = find_of_merchants(tx, missing, now)
        found = [one for one in rows if one.page_id == merchants[one.merchant_id].page_id]
        write_copies(found, now)
        fresh |= {one.merchant_id for one in found}
    return fresh


def get_page(address: Address) -> CacheHit:
    """Return the entry of the address; Notion is read only if neither Valkey nor the database has one.

    Concurrent calls for one address wait for the first one, in other processes too. Call it without an open
    transaction. Raises ``Misconfigured`` for a shop without Notion, and the error of a call to Notion.
    """
    if (hit := find_cached(address, utc_now())) is not None:
        return hit
    with _joined(address):
        hit = find_cached(address, utc_now())
        return hit or CacheHit(refresh_entry(address, utc_now()), "notion")


def find_cached(address: Address, now: datetime) -> CacheHit | None:
    """Return the entry that Valkey or the database has."""
    if (copy := read_copies([address], now).get(address)) is not None:
        return CacheHit(copy, "valkey")
    with transaction() as tx:
        entry = find_entries(tx, [address], now).get(address)
    if entry is None:
        return None
    write_copies([entry], now)
    return CacheHit(entry, "database")


@contextmanager
def _joined(address: Address) -> Iterator[None]:
    """Let one thread of one process at a time read Notion for ``address``; others wait for its result."""
    with _guard:
        lock = _locks.setdefault(address, threading.Lock())
    with lock:
        ends_at = time.monotonic() + JOIN_SECONDS
        while not (is_first := begin_loading(address)) and time.monotonic() < ends_at:
            if find_cached(address, utc_now()) is not None:
                break
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            if is_first:
                end_loading(address)


def refresh_entry(address: Address, now: datetime) -> CacheEntry:
    """Read the page of the address at Notion, store the answer and return it. No page is created.

    A merchant whose page Notion does not have any more has none: its next event makes a new one, with all
    that was on the former. Raises as ``get_page`` does.
    """
    with transaction() as tx:
        access = find_notion_access(tx, address[0])
        merchant = find_by_addresses(tx, [address]).get(address)
    if access is None:
        raise Misconfigured("notion.no_key", "the shop has no Notion: record notion-key and a data source")
    page_id = _read_page_id(access, address, merchant)
    with transaction() as tx:
        _store(tx, address, merchant, page_id, now)
        entry = find_entries(tx, [address], now)[address]
    write_copies([entry], now)
    return entry


def _read_page_id(access: NotionAccess, address: Address, merchant: Merchant | None) -> str:
    notion = access.open()
    if merchant is not None and merchant.page_id:
        try:
            if not notion.fetch_page(merchant.page_id).get("in_trash"):
                return merchant.page_id
        except Refused as fault:
            if fault.code != NOT_FOUND:
                raise
    return find_page(notion, access, address[1], merchant)


def _store(tx: Connection, address: Address, merchant: Merchant | None, page_id: str, now: datetime) -> None:
    if merchant is None or not page_id:
        if merchant is not None and merchant.page_id:
            forget_page(tx, merchant)
        store_entry(tx, address, merchant.id if merchant else 0, page_id, now)
    elif page_id == merchant.page_id:
        store_page(tx, merchant, page_id, now)
    else:
        changes = record_page(tx, merchant, FoundPage(page_id, merchant.page_values, "found"), now)
        append_change(tx, "canvas.refresh", {address[0]: changes}, by="fleet", now=now)
