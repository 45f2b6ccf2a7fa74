"""Reads Shopify's lists page by page, within the shop's rate limit, and describes one list."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table

from services.core.db import transaction
from services.core.errors import NotYet, RetryLater
from services.core.fields import find_object
from services.core.pg_arrays import find_by_key
from services.providers.delivery import find_instant
from services.shopify.backfill.to_webhook import Node, PulledEvent, number_of

if TYPE_CHECKING:
    from services.providers.shopify_admin import ShopifyAdmin

Stored = Mapping[str, Any]
"""A row of ours, by column name."""

LONGEST_WAIT = timedelta(seconds=10)
"""The pager waits up to this long; a longer wait is left to the ledger, where it holds no worker."""

TIME_FOR_A_RUN = timedelta(minutes=10)
"""Well under the job's time limit. The next try continues from the last cursor."""

LEAVE_FREE = 0.5
"""The share of the rate limit that a backfill leaves to the pushes of stock, which are more urgent."""

GO_ON_AFTER = timedelta(seconds=5)


class Pager:
    """Queries ``admin``: waits for short throttles, and raises ``NotYet`` when the time for a run is over."""

    def __init__(
        self,
        admin: "ShopifyAdmin",
        *,
        time_for_a_run: timedelta = TIME_FOR_A_RUN,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._admin, self._pause, self._clock = admin, pause, clock
        self._until = clock() + time_for_a_run.total_seconds()

    def query(self, document: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the data of ``document``.

        A throttled query is sent again after the wait that Shopify states, if that is short; a longer wait,
        and any other failure, is raised.
        """
        while True:
            if self._clock() >= self._until:
                message = "the time for a run is over: the next try continues from the last cursor"
                raise NotYet("backfill.time_used", message, wait=GO_ON_AFTER)
            self._leave_room()
            try:
                return self._admin.execute(document, variables, changes=False)
            except RetryLater as fault:
                if fault.wait is None or fault.wait > LONGEST_WAIT:
                    raise
                self._pause(max(fault.wait.total_seconds(), 0.05))

    def pages(
        self, document: str, variables: Mapping[str, Any], *path: str, after: str | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the nodes of each page of the list at ``path`` of the answers, queried when it is needed."""
        while after != "":
            found = self.query(document, {**variables, "after": after})
            for name in path:
                found = find_object(found, name)
            after = _next_cursor(found)
            yield list(found.get("nodes") or ())

    def complete(self, node: Mapping[str, Any], name: str, document: str, root: str) -> dict[str, Any]:
        """Return ``node`` with all of its list ``name``; ``document`` reads more of it, under ``root``."""
        found = find_object(node, name)
        nodes = list(found.get("nodes") or ())
        if after := _next_cursor(found):
            rest = self.pages(document, {"id": node["id"]}, root, name, after=after)
            nodes += [more for page in rest for more in page]
        return {**node, name: {"nodes": nodes}}

    def _leave_room(self) -> None:
        throttle = self._admin.throttle
        if throttle is None or throttle.restore_rate <= 0:
            return
        missing = throttle.maximum_available * LEAVE_FREE - throttle.currently_available
        if missing > 0:
            self._pause(min(missing / throttle.restore_rate, LONGEST_WAIT.total_seconds()))


def is_newer(node: Node, known: Stored | None, column: str = "updated_at") -> bool:
    """Return whether ``node`` is unknown here, or changed after the time in ``column``."""
    updated_at = find_instant(node["updatedAt"])
    return known is None or updated_at is None or updated_at > known[column]


def find_missing(
    table: Table,
    make: Callable[[Node], PulledEvent],
    _pager: Pager,
    shop_id: int,
    page: Sequence[Node],
    _now: datetime,
    is_missing: Callable[[Node, Stored | None], bool] = is_newer,
) -> list[PulledEvent]:
    """Return events for the nodes of ``page`` that are missing in ``table``, by default the newer ones."""
    keys = [(shop_id, number_of(node["id"])) for node in page]
    with transaction() as tx:
        known = find_by_key(tx, table, keys)
    return [make(node) for node, key in zip(page, keys, strict=True) if is_missing(node, known.get(key))]


def _next_cursor(connection: Mapping[str, Any]) -> str:
    """Return the cursor of the page after that of ``connection``; empty: there is none."""
    info = find_object(connection, "pageInfo")
    return str(info.get("endCursor") or "") if info.get("hasNextPage") else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledList:
    """One of Shopify's lists: how it is read, and how the objects that are missing here are found.

    ``path`` leads to the list in the answer to ``document``. ``nested`` is a list within each node, with the
    document that reads its further pages and the node's name there. Where ``is_sorted``, the longest
    unchanged node comes first, so the cursor moves with each page. ``find_missing`` takes the shop, a page
    and the current time, and returns events for the objects that are unknown or outdated here.
    """

    name: str
    document: str
    path: tuple[str, ...]
    find_missing: Callable[[Pager, int, Sequence[Node], datetime], list[PulledEvent]]
    variables: Mapping[str, Any] = field(default_factory=dict)
    nested: tuple[str, str, str] | None = None
    is_sorted: bool = False
    is_searchable: bool = True
    """Whether the list can be searched by time; otherwise all of it is read."""
    has_own_scope: bool = False
    """Whether the app needs an access scope for it that it may not have."""

    def read(self, pager: Pager, since: datetime) -> Iterator[Sequence[Node]]:
        """Yield the pages of the nodes changed at ``since`` or later."""
        search = {"query": f"updated_at:>='{since:%Y-%m-%dT%H:%M:%SZ}'"} if self.is_searchable else {}
        for page in pager.pages(self.document, {**self.variables, **search}, *self.path):
            yield [pager.complete(node, *self.nested) for node in page] if self.nested else page
