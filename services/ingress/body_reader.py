"""Limits for incomplete request bodies, and the choice of the body to cancel when a limit is exceeded.

A body of at most ``SMALL_BYTES`` needs no slot and must be complete within ``GRACE_SECONDS``. A larger body,
or one without a stated length, needs a slot and a minimum rate. When all slots are used, the body furthest
behind its rate is cancelled, so that slow senders cannot block others.
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
"""Minimum rate of a large body after ``GRACE_SECONDS``: 5 MiB in 82 seconds."""
LEAST_AGE_SECONDS = 0.5
"""A younger body is not cancelled for another: most bodies of a burst are complete by then."""
MAX_HELD_BYTES = 128 * 1024 * 1024
"""Bytes of incomplete bodies in the memory of one process."""
SHARE, SHARE_OF_ONE_CLIENT = 2, 4
"""Slots for large bodies: 1/2 of the connections of a process, 1/4 for one client address."""


class RsgiProtocol(Protocol):
    """Granian's protocol object of one request."""

    def __call__(self) -> Awaitable[bytes]:
        """Return the whole body in one await."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body in parts; an empty part when the sender disconnects."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send the response."""


class _Body:
    """An incomplete body."""

    # ``client`` and ``received_bytes`` are set only with a slot: granian reports no progress of a small body.
    __slots__ = ("began", "client", "is_cancelled", "received_bytes", "task")

    def __init__(self, task: asyncio.Task[Any], began: float) -> None:
        self.task, self.began = task, began
        self.received_bytes = 0
        self.client: str | None = None
        self.is_cancelled = False

    def behind_bytes(self, now: float) -> float:
        """Return how many bytes are missing for the minimum rate; negative if none."""
        return (now - self.began - GRACE_SECONDS) * BYTES_PER_SECOND - self.received_bytes


class BodyReader:
    """Reads bodies within the limits of one process with ``connections`` connections."""

    def __init__(self, connections: int) -> None:
        self._most = max(1, connections // SHARE)
        self._most_of_one = max(1, connections // SHARE_OF_ONE_CLIENT)
        self._incomplete: dict[_Body, None] = {}
        self._held_bytes = 0

    async def read(self, protocol: RsgiProtocol, stated: str, find_client: Callable[[], str]) -> bytes:
        """Return the whole body of a request whose ``Content-Length`` is ``stated``.

        Raises ``BodyTooLarge`` when the limit is exceeded, and ``Unavailable`` when the sender disconnects,
        is slower than ``BYTES_PER_SECOND``, or is cancelled for another. ``find_client`` is called for a body
        that needs a slot.
        """
        size = int(stated) if stated.isdecimal() else MAX_BODY_BYTES
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge
        if not size:
            return b""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - granian runs each request as a task
        one = _Body(task, asyncio.get_running_loop().time())
        self._incomplete[one] = None
        try:
            if stated and size <= SMALL_BYTES:
                return await protocol()
            self._admit(one, find_client())
            return await self._collect(one, protocol, size, is_stated=bool(stated))
        except asyncio.CancelledError as fault:
            if not one.is_cancelled:
                raise  # the server is stopping
            task.uncancel()
            raise Unavailable("the body was too slow, or was cancelled for another") from fault
        except ProtocolClosed as fault:
            raise Unavailable("the sender disconnected") from fault
        finally:
            del self._incomplete[one]
            self._held_bytes -= one.received_bytes

    async def _collect(self, one: _Body, protocol: RsgiProtocol, size: int, *, is_stated: bool) -> bytes:
        parts: list[bytes] = []
        async for part in protocol:
            parts.append(part)
            one.received_bytes += len(part)
            self._held_bytes += len(part)
            if is_stated and one.received_bytes >= size:
                break
            if one.received_bytes > MAX_BODY_BYTES:
                raise BodyTooLarge
            if self._held_bytes > MAX_HELD_BYTES:
                self._cancel_slowest_of(list(self._incomplete), least_age_seconds=0)
        if is_stated and one.received_bytes < size:
            raise Unavailable("the sender disconnected")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def cancel_late(self, now: float) -> None:
        """Cancel every body that is slower than the minimum rate."""
        for one in list(self._incomplete):
            if now - one.began <= GRACE_SECONDS:
                return  # ordered by start
            if one.behind_bytes(now) > 0:
                self._cancel(one)

    def cancel_slowest(self, count: int, now: float) -> None:
        """Cancel up to ``count`` bodies, those furthest behind, to free connections."""
        for one in _list_slowest(list(self._incomplete), now, LEAST_AGE_SECONDS)[:count]:
            self._cancel(one)

    def _admit(self, one: _Body, client: str) -> None:
        """Give ``one`` a slot; if too many are used, cancel the body furthest behind."""
        one.client = client
        with_slot = [
            other for other in self._incomplete if other.client is not None and not other.is_cancelled
        ]
        of_one = [other for other in with_slot if other.client == client]
        if len(of_one) > self._most_of_one:
            self._cancel_slowest_of(of_one)
        elif len(with_slot) > self._most:
            self._cancel_slowest_of(with_slot)

    def _cancel_slowest_of(self, of: Sequence[_Body], *, least_age_seconds: float | None = None) -> None:
        least = LEAST_AGE_SECONDS if least_age_seconds is None else least_age_seconds
        for one in _list_slowest(of, asyncio.get_running_loop().time(), least)[:1]:
            self._cancel(one)

    @staticmethod
    def _cancel(one: _Body) -> None:
        if not one.is_cancelled:
            one.is_cancelled = True
            one.task.cancel()


def _list_slowest(of: Sequence[_Body], now: float, least_age_seconds: float) -> list[_Body]:
    """Return the bodies that may be cancelled, the one furthest behind first."""
    old = [one for one in of if not one.is_cancelled and now - one.began >= least_age_seconds]
    return sorted(old, key=lambda one: one.behind_bytes(now), reverse=True)
