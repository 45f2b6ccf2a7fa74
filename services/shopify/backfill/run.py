"""Backfill: reads Shopify's lists from their cursors on, and records missing objects as inbound events.

One transaction records the missing objects of a page and moves the cursor: after a crash the next run
continues from the last page, and nothing is lost or recorded twice. A list is read again from ten minutes
before its cursor, because Shopify's search index lags behind its objects, and its clock differs from ours.

The delivery key of an event is the object and a digest of its payload, so each state is recorded once. Known
keys are looked up first: the ledger would count them as duplicate deliveries.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from services.alerts.incidents import resolve_incident
from services.core.db import transaction
from services.core.errors import Misconfigured, Refused
from services.core.times import format_time
from services.ledger.accept import NewEvent, list_missing_events, record_events
from services.ledger.dispatch import send_messages
from services.ledger.sync_cursors import find_cursor, upsert_cursor
from services.ledger.webhook_refusals import delete_old_refusals, find_first_refusal
from services.providers.call_outcomes import optional_calls
from services.providers.delivery import find_instant
from services.providers.shopify import shopify_object_key
from services.providers.shopify_answers import parse_access
from services.providers.shopify_documents import READ_ACCESS
from services.shopify.backfill.catalogue import read_catalogue
from services.shopify.backfill.logistics import FULFILLMENT_ORDERS, RETURNS
from services.shopify.backfill.orders import ORDERS, open_orders
from services.shopify.backfill.pager import Pager, PulledList
from services.shopify.backfill.state import BackfillState, find_state, update_state
from services.shopify.backfill.stock import ITEMS, LOCATIONS, PRODUCTS, levels_of
from services.shopify.backfill.webhook_payload import Node, PulledEvent
from services.shopify.entities import EPOCH
from services.shopify.shop_access import open_admin
from services.shops.shops import get_shop_by_id

OVERLAP = timedelta(minutes=10)
FIRST_RUN_WINDOW = timedelta(days=60)
"""The time that a shop's first backfill covers: older orders need the scope ``read_all_orders``."""

NO_ACCESS = frozenset({"shopify.no_domain", "shopify.no_token"})
"""The errors of ``open_admin`` for a shop that was never connected."""

NO_SCOPE = "shopify.access_denied"

Progress = Callable[[str, int, int | None], None]
"""Is called with a list's name, how many of its objects are read, and their number if it is known."""


def ignore_progress(_name: str, _done: int, _total: int | None) -> None:
    """Do nothing: a job shows no progress."""


@dataclass(slots=True)
class BackfillStats:
    """The number of compared objects (of all lists and by list), and of recorded events by topic."""

    seen: int = 0
    by_list: Counter[str] = field(default_factory=Counter)
    recorded: Counter[str] = field(default_factory=Counter)
    is_skipped: bool = False


def backfill_shopify(
    shop_id: int,
    now: datetime,
    request_id: str,
    *,
    since: datetime | None = None,
    is_dry: bool = False,
    pager: Pager | None = None,
    on_progress: Progress = ignore_progress,
) -> BackfillStats:
    """Record the objects that are at Shopify and missing here, and move the cursors.

    The first time it reads the whole catalogue, and with ``read_all_orders`` the open orders of any age.
    Reads from ``since`` if that is before a cursor, for a known outage. The first webhook that the ingress
    refused is such a time too, until a backfill an hour after the last refusal has read all lists. ``is_dry``
    only counts what would be recorded. A shop that is not connected is skipped. Raises ``WorkError`` for
    failures at Shopify; pages that were read before stay recorded.
    """
    try:
        pager = pager or Pager(open_admin(shop_id))
    except Misconfigured as fault:
        if fault.code not in NO_ACCESS:
            raise
        return BackfillStats(is_skipped=True)
    with transaction() as tx:
        begins = [at for at in (since, find_first_refusal(tx, shop_id)) if at is not None]
    backfill = ShopBackfill(
        shop_id, pager, now, request_id, min(begins, default=now), is_dry, on_progress=on_progress
    )
    backfill.run()
    if not is_dry:
        _settle_refusals(shop_id, now)
    return backfill.stats


def _settle_refusals(shop_id: int, now: datetime) -> None:
    with transaction() as tx:
        for outcome, first_at in delete_old_refusals(tx, shop_id, now):
            since = format_time(first_at)
            how = f"No such refusal for an hour; Shopify's lists were read from {since} on."
            resolve_incident(tx, shop_id, f"webhook_{outcome}", None, now, how)


@dataclass(slots=True)
class ShopBackfill:
    """One backfill of one shop; each list is read from its cursor or ``since``, whichever is earlier."""

    shop_id: int
    pager: Pager
    now: datetime
    request_id: str
    since: datetime
    is_dry: bool
    stats: BackfillStats = field(default_factory=BackfillStats)
    on_progress: Progress = ignore_progress
    state: BackfillState = field(default_factory=BackfillState)

    def run(self) -> None:
        """Backfill each list: products before orders, locations before their levels."""
        self.state = self._record_access()
        location_gids: list[str] = []

        def find_locations(
            pager: Pager, shop_id: int, page: Sequence[Node], now: datetime
        ) -> list[PulledEvent]:
            location_gids.extend(location["id"] for location in page)
            return LOCATIONS.find_missing(pager, shop_id, page, now)

        self.read_list(replace(LOCATIONS, find_missing=find_locations))
        levels = [levels_of(gid) for gid in location_gids]
        if is_first := self.state.catalogue_read_at is None:
            read_catalogue(self, self.state, levels)
        else:
            for pulled_list in (PRODUCTS, ITEMS):
                self.read_list(pulled_list)
        if self.state.has_all_orders and self.state.open_orders_at is None:
            self.read_list(open_orders(before=self.now - FIRST_RUN_WINDOW), first=EPOCH)
            self.update_state(open_orders_at=self.now)
        for pulled_list in (ORDERS, FULFILLMENT_ORDERS, RETURNS, *([] if is_first else levels)):
            self.read_list(pulled_list)
        self._record_orders_since()

    def _record_access(self) -> BackfillState:
        """Store the scopes that Shopify grants, and return the state with them."""
        access = parse_access(self.pager.query(READ_ACCESS, {}))
        with transaction() as tx:
            state = find_state(tx, self.shop_id)
        if state.scopes != access.scopes:
            self.update_state(scopes=access.scopes)
        return state._replace(scopes=access.scopes)

    def _record_orders_since(self) -> None:
        """Record since when all orders are read: since the first window, or since an earlier ``since``."""
        begin = self.now - FIRST_RUN_WINDOW
        if self.state.has_all_orders:
            begin = min(begin, self.since)
        known = self.state.orders_since
        if known is None or begin < known:
            self.update_state(orders_since=begin)

    def update_state(self, **changes: Any) -> None:
        """Change fields of the shop's ``BackfillState``, unless the run is dry."""
        if not self.is_dry:
            with transaction() as tx:
                update_state(tx, self.shop_id, **changes)

    def read_list(self, pulled_list: PulledList, *, first: datetime | None = None) -> None:
        """Backfill a list; skip it if it needs an access scope that the app does not have.

        ``first`` is where a list without a cursor begins; by default, and at the earliest without
        ``read_all_orders``, 60 days ago.
        """
        with transaction() as tx:
            cursor = find_cursor(tx, self.shop_id, "shopify", pulled_list.name)
        oldest = self.now - FIRST_RUN_WINDOW
        if first is not None:
            begin = first if cursor is None else cursor - OVERLAP
        else:
            begin = oldest if cursor is None else min(cursor, self.since) - OVERLAP
            begin = min(begin, self.since) if self.state.has_all_orders else max(begin, oldest)
        with optional_calls() if pulled_list.has_own_scope else nullcontext():
            try:
                for page, is_last in _mark_last_page(pulled_list.read(self.pager, begin)):
                    self.record_page(pulled_list, page, is_last=is_last)
            except Misconfigured as fault:
                if not (pulled_list.has_own_scope and fault.code == NO_SCOPE):
                    raise

    def record_page(self, pulled_list: PulledList, page: Sequence[Node], *, is_last: bool = False) -> None:
        """Record the missing objects of ``page`` and move the cursor, in one transaction."""
        self.pager.check_time()
        missing = pulled_list.find_missing(self.pager, self.shop_id, page, self.now)
        work = []
        with transaction() as tx:
            if get_shop_by_id(tx, self.shop_id).removed_at is not None:
                raise Refused("shop.removed", "the shop was removed: nothing more of it is recorded")
            events = list_missing_events(tx, [self._make_event(pulled) for pulled in missing])
            if not self.is_dry:
                if events:
                    work = [ref for accepted in record_events(tx, events) for ref in accepted.work]
                synced_until = self.now if is_last else None
                if pulled_list.is_sorted and page:
                    synced_until = find_instant(page[-1]["updatedAt"])
                if synced_until is not None:
                    upsert_cursor(tx, self.shop_id, "shopify", pulled_list.name, synced_until, self.now)
        self.stats.seen += len(page)
        self.stats.recorded += Counter(event.topic for event in events)
        self.stats.by_list[pulled_list.name] += len(page)
        self.on_progress(pulled_list.name, self.stats.by_list[pulled_list.name], None)
        if work:
            send_messages(work)

    def _make_event(self, pulled: PulledEvent) -> NewEvent:
        body = orjson.dumps(pulled.body)
        digest = hashlib.sha256(body).hexdigest()[:24]
        return NewEvent(
            shop_id=self.shop_id,
            provider="shopify",
            topic=pulled.topic,
            delivery_key=f"pull:{pulled.gid.removeprefix('gid://shopify/')}:{digest}",
            body=body,
            received_at=self.now,
            occurred_at=pulled.occurred_at,
            request_id=self.request_id,
            origin="backfill",
            key=shopify_object_key(pulled.topic, pulled.body),
        )


def _mark_last_page(pages: Iterable[Sequence[Node]]) -> Iterable[tuple[Sequence[Node], bool]]:
    """Yield each page with False, and then an empty page with True: the list is complete.

    Only a query for the next page shows whether a page is the last; the page is recorded before that.
    """
    for page in pages:
        yield page, False
    yield (), True
