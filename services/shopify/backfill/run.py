"""Backfill: reads Shopify's lists from their cursors on, and records missing objects as inbound events.

The missing objects of a page are recorded in one transaction, and the cursor moves with them: after a crash
the next run continues from the last page, and nothing is lost or recorded twice. A list is read again from
ten minutes before its cursor, because Shopify's search index lags behind its objects, and its clock differs
from ours.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from services.alerts.incidents import resolve_incident
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.ledger.accept import WorkRef
from services.ledger.dispatch import send_messages
from services.ledger.refusals import find_first_refusal, settle_refusals
from services.ledger.sync_cursors import find_cursor, upsert_cursor
from services.providers.calls import optional_calls
from services.providers.delivery import find_instant
from services.shopify.admin import open_admin
from services.shopify.backfill.intake import find_new_events, record_pulled_events
from services.shopify.backfill.logistics import FULFILLMENT_ORDERS, RETURNS
from services.shopify.backfill.orders import ORDERS
from services.shopify.backfill.pager import AdminApi, Pager, PulledList
from services.shopify.backfill.stock import ITEMS, LOCATIONS, PRODUCTS, levels_of
from services.shopify.backfill.to_webhook import Node, PulledEvent

PROVIDER = "shopify"
OVERLAP = timedelta(minutes=10)
FIRST_REACH = timedelta(days=60)
"""How far back a shop's first backfill reads: Shopify shows no older order without ``read_all_orders``."""

NO_ACCESS = frozenset({"shopify.no_domain", "shopify.no_token"})
"""The errors of ``open_admin`` for a shop that was never connected."""

NO_SCOPE = "shopify.access_denied"

NotifyWorkers = Callable[[Sequence[WorkRef]], object]


@dataclass(slots=True)
class BackfillStats:
    """How many objects were compared, and the events that were recorded, by topic."""

    seen: int = 0
    entered: Counter[str] = field(default_factory=Counter)
    is_skipped: bool = False


def backfill_shopify(
    shop_id: int,
    now: datetime,
    request_id: str,
    *,
    since: datetime | None = None,
    is_dry: bool = False,
    open_shop: Callable[[int], AdminApi] = open_admin,
    notify: NotifyWorkers = send_messages,
) -> BackfillStats:
    """Record what is in the shop's Shopify and missing here, and move the cursors.

    ``since`` reads from before the cursors, for a known outage; so does the first webhook that the ingress
    refused by name, until a backfill an hour after the last refusal has read all lists. ``notify`` gets the
    work of each page after its commit. ``is_dry`` counts what would be recorded and changes nothing. A shop
    that is not connected is skipped. Raises ``WorkError`` for Shopify's failures; pages read before stay.
    """
    try:
        admin = open_shop(shop_id)
    except Misconfigured as fault:
        if fault.code not in NO_ACCESS:
            raise
        return BackfillStats(is_skipped=True)
    with transaction() as tx:
        begins = [at for at in (since, find_first_refusal(tx, shop_id)) if at is not None]
    backfill = ShopBackfill(
        shop_id, Pager(admin), now, request_id, notify=notify, since=min(begins, default=None), is_dry=is_dry
    )
    backfill.run()
    if not is_dry:
        _settle_refusals(shop_id, now)
    return backfill.stats


def _settle_refusals(shop_id: int, now: datetime) -> None:
    """Delete the refusals that are over, and resolve their incidents."""
    with transaction() as tx:
        for outcome, first_at in settle_refusals(tx, shop_id, now):
            since = f"{first_at:%Y-%m-%d %H:%M} UTC"
            how = f"No such refusal for an hour; Shopify's lists were read from {since} on."
            resolve_incident(tx, shop_id, f"webhook_{outcome}", None, now, how)


class ShopBackfill:
    """One backfill of one shop."""

    def __init__(
        self,
        shop_id: int,
        pager: Pager,
        now: datetime,
        request_id: str,
        *,
        notify: NotifyWorkers,
        since: datetime | None = None,
        is_dry: bool = False,
    ) -> None:
        self._shop_id, self._pager, self._now, self._request_id = shop_id, pager, now, request_id
        self._notify, self._since, self._is_dry = notify, since, is_dry
        self.stats = BackfillStats()

    def run(self) -> None:
        """Backfill each list: products before the orders that name them, locations before their levels."""
        location_gids: list[str] = []

        def find_locations(
            pager: Pager, shop_id: int, page: Sequence[Node], now: datetime
        ) -> list[PulledEvent]:
            location_gids.extend(location["id"] for location in page)
            return LOCATIONS.find_missing(pager, shop_id, page, now)

        self._backfill(replace(LOCATIONS, find_missing=find_locations))
        for pulled_list in (PRODUCTS, ITEMS, ORDERS, FULFILLMENT_ORDERS, RETURNS):
            self._backfill(pulled_list)
        for gid in location_gids:
            self._backfill(levels_of(gid))

    def _backfill(self, pulled_list: PulledList) -> None:
        """Backfill a list; one with an access scope of its own only where the app has it."""
        with optional_calls() if pulled_list.has_own_scope else nullcontext():
            try:
                for page, is_last in _with_last(pulled_list.read(self._pager, self._begin(pulled_list))):
                    self._backfill_page(pulled_list, page, is_last=is_last)
            except Misconfigured as fault:
                if not (pulled_list.has_own_scope and fault.code == NO_SCOPE):
                    raise

    def _backfill_page(self, pulled_list: PulledList, page: Sequence[Node], *, is_last: bool) -> None:
        """Record what is missing of ``page``, and move the cursor, in one transaction."""
        missing = pulled_list.find_missing(self._pager, self._shop_id, page, self._now)
        work: list[WorkRef] = []
        with transaction() as tx:
            events = find_new_events(tx, self._shop_id, missing, self._now, self._request_id)
            if not self._is_dry:
                work = record_pulled_events(tx, events)
                synced_until = self._now if is_last else None
                if pulled_list.is_sorted and page:
                    synced_until = find_instant(page[-1]["updatedAt"])
                if synced_until is not None:
                    upsert_cursor(tx, self._shop_id, PROVIDER, pulled_list.name, synced_until, self._now)
        self.stats.seen += len(page)
        self.stats.entered += Counter(event.topic for event in events)
        if work:
            self._notify(work)

    def _begin(self, pulled_list: PulledList) -> datetime:
        """Return the time from which on to read the list."""
        with transaction() as tx:
            cursor = find_cursor(tx, self._shop_id, PROVIDER, pulled_list.name)
        earliest = self._now - FIRST_REACH
        begin = earliest if cursor is None else max(cursor - OVERLAP, earliest)
        return begin if self._since is None else min(begin, max(self._since - OVERLAP, earliest))


def _with_last(pages: Iterable[Sequence[Node]]) -> Iterable[tuple[Sequence[Node], bool]]:
    """Yield each page, and then an empty one with True: the list is complete.

    Whether a page is the last is known only by querying the next one; a page is recorded before that.
    """
    for page in pages:
        yield page, False
    yield (), True
