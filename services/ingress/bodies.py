"""Bodies on their way in: what they may take while they are not complete, and who is cut when it is too much.

No limit here touches a body that has arrived. A body of at most ``SMALL_BYTES`` takes nothing of the share
and must be complete within ``GRACE_SECONDS``. A larger one, and one of no stated length, takes of the share
and must keep up a rate; one more than fits cuts the one that is furthest behind. So a sender that announces
much and sends little makes way for one that sends.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]

from services.ingress.group_commit import Unavailable
from services.ingress.webhooks import MAX_BODY_BYTES, BodyTooLarge

SMALL_BYTES = 64 * 1024
GRACE_SECONDS = 2.0
BYTES_PER_SECOND = 64 * 1024
"""What a large body must come in with after ``GRACE_SECONDS``: the whole 5 MiB in 82 seconds."""
LEAST_AGE_SECONDS = 0.5
"""A body that began later is not cut for another: many that come at once are complete by then."""
MAX_HELD_BYTES = 128 * 1024 * 1024
"""Parts of bodies that one process holds."""
SHARE = 2
"""Bodies that are large may take one in so many of a process's connections."""
SHARE_OF_ONE_CLIENT = 4
"""The same for those of one client's address."""


class Wire(Protocol):
    """Granian's side of one request."""

    def __call__(self) -> Awaitable[bytes]:
        """Return the whole body: one wait, where its parts would be several."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; an empty part where the sender went away."""
        ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send the answer."""
        ...


class _Unfinished:
    """One body that is not complete."""

    __slots__ = ("began", "client", "is_cut", "received_bytes", "task")

    def __init__(self, task: asyncio.Task[Any], began: float) -> None:
        self.task, self.began = task, began
        self.received_bytes = 0  # of one that takes of the share: how far a small one is, nobody sees
        self.client: str | None = None  # of one that takes of the share
        self.is_cut = False

    def behind_bytes(self, now: float) -> float:
        """Return how much more should be here; below zero while it keeps up."""
        return (now - self.began - GRACE_SECONDS) * BYTES_PER_SECOND - self.received_bytes


class Bodies:
    """Reads bodies within the limits of one process of ``connections`` connections."""

    def __init__(self, connections: int) -> None:
        self._most = max(1, connections // SHARE)
        self._most_of_one = max(1, connections // SHARE_OF_ONE_CLIENT)
        self._unfinished: dict[_Unfinished, None] = {}
        self._held_bytes = 0

    async def read(self, wire: Wire, stated: str, find_client: Callable[[], str]) -> bytes:
        """Return the whole body of a request whose ``Content-Length`` is ``stated``.

        Raises ``BodyTooLarge`` as soon as it is known to be, and ``Unavailable`` where it does not come:
        its sender went away, was slower than ``BYTES_PER_SECOND``, or made way for another. ``find_client``
        is called for a body that takes of the share.
        """
        size = int(stated) if stated.isdecimal() else MAX_BODY_BYTES
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge
        if not size:
            return b""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - granian runs each request as one
        one = _Unfinished(task, asyncio.get_running_loop().time())
        self._unfinished[one] = None
        try:
            if stated and size <= SMALL_BYTES:
                return await wire()
            self._admit(one, find_client())
            return await self._collect(one, wire, size, is_stated=bool(stated))
        except asyncio.CancelledError as fault:
            if not one.is_cut:
                raise  # the server stops
            task.uncancel()
            raise Unavailable("the body did not come in time, or made way for another") from fault
        except ProtocolClosed as fault:
            raise Unavailable("the sender went away") from fault
        finally:
            del self._unfinished[one]
            self._held_bytes -= one.received_bytes

    async def _collect(self, one: _Unfinished, wire: Wire, size: int, *, is_stated: bool) -> bytes:
        parts: list[bytes] = []
        async for part in wire:
            parts.append(part)
            one.received_bytes += len(part)
            self._held_bytes += len(part)
            if is_stated and one.received_bytes >= size:
                break
            if one.received_bytes > MAX_BODY_BYTES:
                raise BodyTooLarge
            if self._held_bytes > MAX_HELD_BYTES:
                self._cut_worst(list(self._unfinished), least_age_seconds=0)
        if is_stated and one.received_bytes < size:
            raise Unavailable("the sender went away")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def cut_late(self, now: float) -> None:
        """Every body that is slower than the least rate is cut."""
        for one in list(self._unfinished):
            if now - one.began <= GRACE_SECONDS:
                return  # in the order of their beginning
            if one.behind_bytes(now) > 0:
                self._cut(one)

    def make_way(self, count: int, now: float) -> None:
        """Cut up to ``count`` bodies, those furthest behind, as connections run short."""
        for one in _find_worst(list(self._unfinished), now, LEAST_AGE_SECONDS)[:count]:
            self._cut(one)

    def _admit(self, one: _Unfinished, client: str) -> None:
        """``one`` takes of the share; where that is too much, the one furthest behind is cut."""
        one.client = client
        taking = [other for other in self._unfinished if other.client is not None and not other.is_cut]
        of_one = [other for other in taking if other.client == client]
        if len(of_one) > self._most_of_one:
            self._cut_worst(of_one)
        elif len(taking) > self._most:
            self._cut_worst(taking)

    def _cut_worst(self, of: Sequence[_Unfinished], *, least_age_seconds: float | None = None) -> None:
        least = LEAST_AGE_SECONDS if least_age_seconds is None else least_age_seconds
        for one in _find_worst(of, asyncio.get_running_loop().time(), least)[:1]:
            self._cut(one)

    @staticmethod
    def _cut(one: _Unfinished) -> None:
        if not one.is_cut:
            one.is_cut = True
            one.task.cancel()


def _find_worst(of: Sequence[_Unfinished], now: float, least_age_seconds: float) -> list[_Unfinished]:
    """Return those that may be cut, the one furthest behind first."""
    old = [one for one in of if not one.is_cut and now - one.began >= least_age_seconds]
    return sorted(old, key=lambda one: one.behind_bytes(now), reverse=True)
