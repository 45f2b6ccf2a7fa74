"""Shopify's own lists are read from the last mark on, and what we lack enters as if its webhook had come.

Every page is looked through and recorded in one transaction, and the mark moves with it: a crash between
pages goes on from the last page, loses nothing and enters nothing twice. A list is read again from ten
minutes before its mark, because Shopify's search lags behind its objects (their index is filled after the
fact), and its clock and ours differ.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

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
from services.shopify.backfill.fulfillment_orders import (
    find_lacking_fulfillment_orders,
    list_fulfillment_orders,
)
from services.shopify.backfill.intake import count_topics, enter, find_new
from services.shopify.backfill.node_fields import Node
from services.shopify.backfill.orders import find_known_orders, list_orders, read_lacking_orders
from services.shopify.backfill.pager import AdminApi, Pager
from services.shopify.backfill.returns import find_lacking_returns, list_returns
from services.shopify.backfill.stock import (
    find_lacking_items,
    find_lacking_levels,
    find_lacking_locations,
    find_lacking_products,
    list_items,
    list_levels,
    list_locations,
    list_products,
)
from services.shopify.backfill.to_webhook import PulledEvent

PROVIDER = "shopify"
OVERLAP = timedelta(minutes=10)
FIRST_REACH = timedelta(days=60)
"""How far back a shop's first healing looks: Shopify shows no older order without ``read_all_orders``."""

NO_ACCESS = frozenset({"shopify.no_domain", "shopify.no_token"})
"""What ``open_admin`` says of a shop that was never connected: nothing to mend, and nothing to heal."""

NO_SCOPE = "shopify.access_denied"

NotifyWorkers = Callable[[Sequence[WorkRef]], object]
FindLacking = Callable[[Connection, int, Sequence[Node]], list[PulledEvent]]


@dataclass(slots=True)
class BackfillStats:
    """What a healing came to: how many objects were looked at, and the events that entered, by topic."""

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
    """What the shop's Shopify has and we lack is in the ledger, and the marks say how far that is true.

    ``since`` looks back further than the marks, for an outage that is known; so does the first webhook that
    the ingress refused by name, until a healing read all lists an hour after the last one. ``notify`` is told
    of the work of each page once it is committed. ``is_dry`` counts what would enter and changes nothing. A
    shop that is not connected is skipped. Raises what Shopify's answers mean; what was read until then stays.
    """
    try:
        admin = open_shop(shop_id)
    except Misconfigured as fault:
        if fault.code not in NO_ACCESS:
            raise
        return BackfillStats(is_skipped=True)
    with transaction() as tx:
        begins = [at for at in (since, find_first_refusal(tx, shop_id)) if at is not None]
    since = min(begins, default=None)
    healing = ShopBackfill(shop_id, Pager(admin), now, request_id, notify=notify, since=since, is_dry=is_dry)
    healing.heal()
    if not is_dry:
        _settle_refusals(shop_id, now)
    return healing.healed


def _settle_refusals(shop_id: int, now: datetime) -> None:
    """Refusals that are over no longer bound healing, and their incidents are resolved."""
    with transaction() as tx:
        for outcome, first_at in settle_refusals(tx, shop_id, now):
            since = f"{first_at:%Y-%m-%d %H:%M} UTC"
            how = f"No such refusal for an hour; Shopify's lists were read from {since} on."
            resolve_incident(tx, shop_id, f"webhook_{outcome}", None, now, how)


class ShopBackfill:
    """One healing of one shop."""

    def __init__(
        self,
        shop_id: int,
        reader: Pager,
        now: datetime,
        request_id: str,
        *,
        notify: NotifyWorkers,
        since: datetime | None = None,
        is_dry: bool = False,
    ) -> None:
        self._shop_id, self._reader, self._now, self._request_id = shop_id, reader, now, request_id
        self._notify, self._since, self._is_dry = notify, since, is_dry
        self.healed = BackfillStats()

    def heal(self) -> None:
        """Heal each list in turn: goods before the orders that name them, places before what lies there."""
        places = self._heal_locations()
        since = self._begin("products")
        self._heal("products", list_products(self._reader, since), find_lacking_products, is_sorted=True)
        since = self._begin("inventory_items")
        self._heal("inventory_items", list_items(self._reader, since), find_lacking_items)
        self._heal_orders()
        self._heal_allowed("fulfillment_orders", list_fulfillment_orders, find_lacking_fulfillment_orders)
        self._heal_allowed("returns", list_returns, partial(find_lacking_returns, now=self._now))
        for gid in places:
            self._heal_levels(gid)

    def _heal_locations(self) -> list[str]:
        gids: list[str] = []

        def found_in(tx: Connection, shop_id: int, page: Sequence[Node]) -> list[PulledEvent]:
            gids.extend(place["id"] for place in page)
            return find_lacking_locations(tx, shop_id, page)

        self._heal("locations", list_locations(self._reader), found_in)
        return gids

    def _heal_levels(self, location_gid: str) -> None:
        stream = f"levels:{location_gid.rpartition('/')[2]}"

        def found_in(tx: Connection, shop_id: int, page: Sequence[Node]) -> list[PulledEvent]:
            return find_lacking_levels(tx, shop_id, location_gid, page)

        self._heal(stream, list_levels(self._reader, location_gid, self._begin(stream)), found_in)

    def _heal_orders(self) -> None:
        """Heal the orders. They are compared first, as what is lacking is read in full between two looks."""
        pages = list_orders(self._reader, self._begin("orders"))
        for page, is_last in _with_last(pages):
            with transaction() as tx:
                known = find_known_orders(tx, self._shop_id, page)
            found = read_lacking_orders(self._reader, page, known)
            self._turn("orders", page, _given(found), self._reached(page, is_last, is_sorted=True))

    def _heal_allowed(
        self,
        stream: str,
        list_pages: Callable[[Pager, datetime], Iterable[Sequence[Node]]],
        find_lacking: FindLacking,
    ) -> None:
        """Heal a list that has an access scope of its own, where the app has it."""
        pages = list_pages(self._reader, self._begin(stream))
        try:
            with optional_calls():
                self._heal(stream, pages, find_lacking, is_sorted=True)
        except Misconfigured as fault:
            if fault.code != NO_SCOPE:
                raise

    def _heal(
        self,
        stream: str,
        pages: Iterable[Sequence[Node]],
        find_lacking: FindLacking,
        *,
        is_sorted: bool = False,
    ) -> None:
        for page, is_last in _with_last(pages):
            self._turn(stream, page, find_lacking, self._reached(page, is_last, is_sorted=is_sorted))

    def _turn(
        self, stream: str, page: Sequence[Node], find_lacking: FindLacking, reached: datetime | None
    ) -> None:
        """What ``page`` has and we lack is in, and the mark of ``stream`` with it: one transaction."""
        with transaction() as tx:
            events = find_new(
                tx, self._shop_id, find_lacking(tx, self._shop_id, page), self._now, self._request_id
            )
            work: list[WorkRef] = []
            if not self._is_dry:
                work = enter(tx, events)
                if reached is not None:
                    upsert_cursor(tx, self._shop_id, PROVIDER, stream, reached, self._now)
        self.healed.seen += len(page)
        self.healed.entered += count_topics(events)
        if work:
            self._notify(work)

    def _reached(self, page: Sequence[Node], is_last: bool, *, is_sorted: bool) -> datetime | None:
        """Return up to when a list is read once ``page`` is in: a list in no order only when it is whole."""
        if is_last:
            return self._now
        return find_instant(page[-1]["updatedAt"]) if is_sorted and page else None

    def _begin(self, stream: str) -> datetime:
        """Return from when on to read ``stream``."""
        with transaction() as tx:
            mark = find_cursor(tx, self._shop_id, PROVIDER, stream)
        earliest = self._now - FIRST_REACH
        begin = earliest if mark is None else max(mark - OVERLAP, earliest)
        return begin if self._since is None else min(begin, max(self._since - OVERLAP, earliest))


def _given(found: list[PulledEvent]) -> FindLacking:
    return lambda _tx, _shop_id, _page: found


def _with_last(pages: Iterable[Sequence[Node]]) -> Iterable[tuple[Sequence[Node], bool]]:
    """Yield each page, and whether it is the last; none is asked for before the one before it is done.

    A generator knows only by asking whether there is a next one, and by then the page would wait: so the
    last page is followed by an empty one that says it.
    """
    for page in pages:
        yield page, False
    yield (), True
