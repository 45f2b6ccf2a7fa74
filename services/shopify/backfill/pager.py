"""Reading Shopify's lists: page by page, and with patience for the shop's bucket of cost points."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from services.core.errors import NotYet, RetryLater
from services.providers.delivery import find_dict
from services.providers.shopify_answers import ThrottleStatus

LONGEST_WAIT = timedelta(seconds=10)
"""A wait up to this is waited for here; a longer one is the ledger's, which holds no worker for it."""

TIME_FOR_A_RUN = timedelta(minutes=10)
"""Well under the job's time limit. What is left is the next try's, which goes on from the last mark."""

LEAVE_FREE = 0.5
"""The share of the bucket that healing leaves to the pushes of stock, which are in more of a hurry."""

GO_ON_AFTER = timedelta(seconds=5)


class AdminApi(Protocol):
    """A shop's Admin API; ``throttle`` is what it last said about its bucket."""

    throttle: ThrottleStatus | None

    def execute(self, document: str, variables: Mapping[str, Any], *, changes: bool) -> dict[str, Any]:
        """Return the data of the answer; raise a ``WorkError`` for any other."""
        ...


class Page:
    """One page of a list: its ``nodes``, and the cursor ``after`` which the next one begins (empty: none)."""

    __slots__ = ("after", "nodes")

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self.nodes: list[dict[str, Any]] = list(connection.get("nodes") or ())
        info = find_dict(connection, "pageInfo")
        self.after = str(info.get("endCursor") or "") if info.get("hasNextPage") else ""


class Pager:
    """Asks ``admin``. It waits short waits itself, and raises ``NotYet`` when a run's time is used up."""

    def __init__(
        self,
        admin: AdminApi,
        *,
        time_for_a_run: timedelta = TIME_FOR_A_RUN,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._admin, self._pause, self._clock = admin, pause, clock
        self._until = clock() + time_for_a_run.total_seconds()

    def ask(self, document: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the data that ``document`` asks for.

        A throttled query is asked again after the wait that Shopify names, if that is short; a longer
        wait, or any other failure, is raised as it came.
        """
        while True:
            if self._clock() >= self._until:
                raise NotYet(
                    "heal.time_used", "the time of a run is used up: it goes on from here", wait=GO_ON_AFTER
                )
            self._leave_room()
            try:
                return self._admin.execute(document, variables, changes=False)
            except RetryLater as fault:
                if fault.wait is None or fault.wait > LONGEST_WAIT:
                    raise
                self._pause(max(fault.wait.total_seconds(), 0.05))

    def pages(self, document: str, variables: Mapping[str, Any], *path: str) -> Iterator[Page]:
        """Yield the pages of the list at ``path`` of the answers, each asked for as it is wanted."""
        after: str | None = None
        while True:
            found = self.ask(document, {**variables, "after": after})
            for name in path:
                found = find_dict(found, name)
            page = Page(found)
            yield page
            if not page.after:
                return
            after = page.after

    def finish(
        self, node: Mapping[str, Any], name: str, document: str, root: str, gid: str
    ) -> dict[str, Any]:
        """Return ``node`` with its list ``name`` whole: what is not on its first page ``document`` reads."""
        page = Page(find_dict(node, name))
        nodes = page.nodes
        while page.after:
            answer = self.ask(document, {"id": gid, "after": page.after})
            page = Page(find_dict(find_dict(answer, root), name))
            nodes = [*nodes, *page.nodes]
        return {**node, name: {"nodes": nodes}}

    def _leave_room(self) -> None:
        throttle = self._admin.throttle
        if throttle is None or throttle.restore_rate <= 0:
            return
        lacking = throttle.maximum_available * LEAVE_FREE - throttle.currently_available
        if lacking > 0:
            self._pause(min(lacking / throttle.restore_rate, LONGEST_WAIT.total_seconds()))


def since_query(since: datetime) -> str:
    """Return the search for what was updated at ``since`` or later."""
    return f"updated_at:>='{since:%Y-%m-%dT%H:%M:%SZ}'"
