"""The first reading of a shop's whole catalogue: products, variants, inventory items and stock levels.

A product that nobody changes has no webhook, and the hourly lists begin at their cursors. So the catalogue is
read once in full: page by page if it is small, else by bulk operations, which have no cost
(https://shopify.dev/docs/api/usage/bulk-operations/queries). A reading that is
interrupted goes on: a list at its cursor, a bulk operation by its id. Known objects are not recorded again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count as count_from
from itertools import groupby, islice
from typing import TYPE_CHECKING

from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import Deferred, Refused, RetryLater
from services.core.fields import find_object
from services.ledger.sync_cursors import delete_cursors, upsert_cursor
from services.providers.http import get_http_client
from services.providers.shopify_bulk import USELESS, group_parts, stream_objects
from services.providers.shopify_documents import (
    BULK_QUERIES,
    COUNT_CATALOGUE,
    READ_BULK_OPERATION,
    RUN_BULK_QUERY,
)
from services.shopify.backfill.pager import PulledList
from services.shopify.backfill.state import BackfillState, update_state
from services.shopify.backfill.stock import ITEMS, PRODUCTS, levels_of
from services.shopify.backfill.webhook_payload import Node
from services.shopify.entities import EPOCH

if TYPE_CHECKING:
    from services.shopify.backfill.run import ShopBackfill

BULK_FROM = 500
"""Variants from which on bulk operations are faster: pages of so many cost minutes of the rate limit."""

PAGE = 250
"""Objects of a bulk operation's file that one transaction records."""

POLL_EVERY = timedelta(seconds=3)
"""The first wait for a bulk operation. Each further one is longer, so that a job soon leaves its worker."""
POLL_LATER = timedelta(seconds=30)

_FIRST = "catalogue:"
"""Prefix of the cursors of the first reading."""


def read_catalogue(reader: "ShopBackfill", state: BackfillState, levels: Sequence[PulledList]) -> None:
    """Read the whole catalogue, and set the cursors of its lists to the start of the reading."""
    begun_at = state.catalogue_begun_at or reader.now
    if state.catalogue_begun_at is None:
        reader.update_state(catalogue_begun_at=begun_at)
    counts = reader.pager.query(COUNT_CATALOGUE, {})
    products, variants = (
        int(find_object(counts, name).get("count") or 0) for name in ("productsCount", "productVariantsCount")
    )
    reader.on_progress("products", 0, products)
    reader.on_progress("inventory_items", 0, variants)
    lists = (PRODUCTS, ITEMS, *levels)
    if variants >= BULK_FROM and not reader.is_dry:
        bulk = dict(state.bulk)
        for page in _pages(_run_bulk(reader, "products", "variants", bulk)):
            reader.record_page(replace(PRODUCTS, is_sorted=False), page)
        _read_items_with_levels(reader, bulk)
    else:
        for pulled_list in lists:
            reader.read_list(replace(pulled_list, name=_FIRST + pulled_list.name), first=EPOCH)
    if reader.is_dry:
        return
    with transaction() as tx:
        for pulled_list in lists:
            upsert_cursor(tx, reader.shop_id, "shopify", pulled_list.name, begun_at, reader.now)
        delete_cursors(tx, reader.shop_id, "shopify", _FIRST)
        update_state(tx, reader.shop_id, catalogue_read_at=reader.now, bulk={})


def _read_items_with_levels(reader: "ShopBackfill", bulk: dict[str, str]) -> None:
    for page in _pages(_run_bulk(reader, "inventory_items", "inventoryLevels", bulk)):
        reader.record_page(ITEMS, page)
        levels = [level for item in page for level in item["inventoryLevels"]["nodes"]]
        for gid, there in groupby(sorted(levels, key=_location_of), key=_location_of):
            reader.record_page(levels_of(gid), list(there))


def _location_of(level: Node) -> str:
    return str(level["location"]["id"])


def _pages(nodes: Iterable[Node]) -> Iterator[list[Node]]:
    rest = iter(nodes)
    while page := list(islice(rest, PAGE)):
        yield page


def _run_bulk(reader: "ShopBackfill", name: str, parts: str, bulk: dict[str, str]) -> Iterator[Node]:
    """Yield the objects of the bulk operation of the list ``name``, each with its list ``parts``.

    Starts an operation unless one is stored, and waits for it. A failed or expired one is forgotten and
    ``RetryLater`` raised: the next try starts another.
    """
    gid = bulk.get(name) or _start(reader, name, bulk)
    for look in count_from(1):
        found = find_object(reader.pager.query(READ_BULK_OPERATION, {"id": gid}), "bulkOperation")
        status, count = found.get("status"), int(found.get("objectCount") or 0)
        if status not in ("CREATED", "RUNNING"):
            break
        reader.on_progress(f"{name} at Shopify", count, None)
        wait = min(look * POLL_EVERY, POLL_LATER)
        reader.pager.wait(
            wait, f"Shopify runs the bulk operation of {name}: {format_count(count, 'object')} so far"
        )
    url = str(found.get("url") or "")
    if status != "COMPLETED" or (count and not url):
        _forget(reader, name, bulk)
        code = found.get("errorCode") or "no error code"
        detail = f"the bulk operation of {name} is {status or 'unknown'} ({code})"
        raise RetryLater("shopify.bulk_failed", detail, wait=POLL_LATER)
    try:
        yield from group_parts(stream_objects(get_http_client(), url) if url else (), parts)
    except RetryLater as fault:
        if fault.code in USELESS:
            _forget(reader, name, bulk)
        raise


def _start(reader: "ShopBackfill", name: str, bulk: dict[str, str]) -> str:
    started = reader.pager.change(RUN_BULK_QUERY, {"query": BULK_QUERIES[name]})
    payload = find_object(started, "bulkOperationRunQuery")
    gid = str(find_object(payload, "bulkOperation").get("id") or "")
    if not gid:
        messages = "; ".join(str(error.get("message")) for error in payload.get("userErrors") or ())
        if "in progress" in messages:
            raise Deferred("shopify.bulk_in_progress", messages, wait=POLL_LATER)
        raise Refused("shopify.bulk_refused", f"Shopify refused the bulk operation of {name}: {messages}")
    bulk[name] = gid
    reader.update_state(bulk=bulk)
    return gid


def _forget(reader: "ShopBackfill", name: str, bulk: dict[str, str]) -> None:
    bulk.pop(name, None)
    reader.update_state(bulk=bulk)
