"""Reads Shopify's lists page by page within the shop's rate limit."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table

from services.core.db import transaction
from services.core.errors import Deferred, RetryLater
from services.core.fields import find_object
from services.core.pg_arrays import find_by_key
from services.providers.delivery import find_instant
from services.shopify.backfill.webhook_payload import Node, PulledEvent, number_of
from services.shopify.entities import EPOCH

if TYPE_CHECKING:
    from services.providers.shopify_admin import ShopifyAdmin

Stored = Mapping[str, Any]
"""A row of our tables, by column name."""

MAX_WAIT = timedelta(seconds=10)
"""The pager waits up to this long. A longer wait is left to the ledger, so that no worker is blocked."""

MAX_RUN_TIME = timedelta(minutes=10)
"""Well below the job's time limit. The next try continues from the last cursor."""

FREE_SHARE = 0.5
"""The share of the rate limit that a backfill leaves free for pushes of stock, which are more urgent."""

RESUME_AFTER = timedelta(seconds=5)


class Pager:
    """Queries ``admin``: waits for short throttles, and raises ``Deferred`` after ``max_run_time``."""

    def __init__(
        self,
        admin: "ShopifyAdmin",
        *,
        max_run_time: timedelta = MAX_RUN_TIME,
        max_wait: timedelta = MAX_WAIT,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._admin, self._pause, self._clock = admin, pause, clock
        self._max_wait = max_wait
        self._until = clock() + max_run_time.total_seconds()

    def query(self, document: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the data of ``document``.

        A throttled query is sent again after the wait in Shopify's answer, if that is short. A longer wait,
        and any other failure, is raised.
        """
        while True:
            self.check_time()
            self._wait_for_free_share()
            try:
                return self._admin.execute(document, variables, changes=False)
            except RetryLater as fault:
                if fault.wait is None or fault.wait > self._max_wait:
                    raise
                self._pause(max(fault.wait.total_seconds(), 0.05))

    def change(self, document: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        return self._admin.execute(document, variables, changes=True)

    def check_time(self) -> None:
        if self._clock() >= self._until:
            message = "the time for a run is over: the next try continues from the last cursor"
            raise Deferred("backfill.time_used", message, wait=RESUME_AFTER)

    def wait(self, length: timedelta, reason: str) -> None:
        """Wait ``length``, or raise ``Deferred`` if that is longer than a run may wait."""
        if length > self._max_wait:
            raise Deferred("backfill.waits", reason, wait=length)
        self._pause(length.total_seconds())

    def pages(
        self, document: str, variables: Mapping[str, Any], *path: str, after: str | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the nodes of each page of the list at ``path`` in the answers; queries page by page."""
        while after != "":
            found = self.query(document, {**variables, "after": after})
            for name in path:
                found = find_object(found, name)
            after = _next_cursor(found)
            yield list(found.get("nodes") or ())

    def complete(self, node: Mapping[str, Any], name: str, document: str, root: str) -> dict[str, Any]:
        """Return ``node`` with its complete list ``name``; ``document`` reads more of it, under ``root``."""
        found = find_object(node, name)
        nodes = list(found.get("nodes") or ())
        if after := _next_cursor(found):
            rest = self.pages(document, {"id": node["id"]}, root, name, after=after)
            nodes += [more for page in rest for more in page]
        return {**node, name: {"nodes": nodes}}

    def _wait_for_free_share(self) -> None:
        throttle = self._admin.throttle
        if throttle is None or throttle.restore_rate <= 0:
            return
        missing = throttle.maximum_available * FREE_SHARE - throttle.currently_available
        if missing > 0:
            self._pause(min(missing / throttle.restore_rate, MAX_WAIT.total_seconds()))


def is_newer(node: Node, known: Stored | None, column: str = "updated_at") -> bool:
    """Return whether ``node`` is unknown here, or changed after the time in ``column``."""
    updated_at = find_instant(node["updatedAt"])
    return known is None or updated_at is None or updated_at > known[column]


def find_missing_nodes(
    table: Table,
    make: Callable[[Node], PulledEvent],
    _pager: Pager,
    shop_id: int,
    page: Sequence[Node],
    _now: datetime,
    is_missing: Callable[[Node, Stored | None], bool] = is_newer,
) -> list[PulledEvent]:
    """Return events for the nodes of ``page`` that are missing or, by default, older in ``table``."""
    keys = [(shop_id, number_of(node["id"])) for node in page]
    with transaction() as tx:
        known = find_by_key(tx, table, keys)
    return [make(node) for node, key in zip(page, keys, strict=True) if is_missing(node, known.get(key))]


def _next_cursor(connection: Mapping[str, Any]) -> str:
    """Return the cursor of the page after ``connection``; empty after the last page."""
    info = find_object(connection, "pageInfo")
    return str(info.get("endCursor") or "") if info.get("hasNextPage") else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledList:
    """One of Shopify's lists: how to read it, and how to find the objects that are missing here.

    ``path`` leads to the list in the answer to ``document``. ``nested`` is a list within each node, with
    the document that reads its further pages and the node's name there. If ``is_sorted``, the oldest change
    comes first, so the cursor moves with each page. ``find_missing`` takes the shop, a page and the current
    time, and returns events for the objects that are unknown or outdated here.
    """

    name: str
    document: str
    path: tuple[str, ...]
    find_missing: Callable[[Pager, int, Sequence[Node], datetime], list[PulledEvent]]
    variables: Mapping[str, Any] = field(default_factory=dict)
    nested: tuple[str, str, str] | None = None
    is_sorted: bool = False
    search: str = ""
    """A condition of the list besides the time, such as ``status:open``."""
    is_searchable: bool = True
    """Whether the list can be searched by time; otherwise it is read completely."""
    has_own_scope: bool = False
    """Whether the list needs an access scope that the app may not have."""

    def read(self, pager: Pager, since: datetime) -> Iterator[Sequence[Node]]:
        """Yield the pages of the nodes changed at ``since`` or later; of all nodes since ``EPOCH``."""
        changed = "" if since == EPOCH else f"updated_at:>='{since:%Y-%m-%dT%H:%M:%SZ}'"
        conditions = " AND ".join(filter(None, (self.search, changed)))
        search = {"query": conditions} if self.is_searchable else {}
        for page in pager.pages(self.document, {**self.variables, **search}, *self.path):
            yield [pager.complete(node, *self.nested) for node in page] if self.nested else page
