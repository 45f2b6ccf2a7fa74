"""Limits of request bodies that are not complete, and which body is cancelled when they are exceeded.

No limit applies to a complete body. A body of at most ``SMALL_BYTES`` needs no slot and must be complete
within ``GRACE_SECONDS``. A larger one, or one without a stated length, needs a slot and a minimum rate. When
the slots are used up, the body furthest behind its rate is cancelled, so slow senders cannot block others.
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
"""A younger body is not cancelled for another: most of a burst are complete by then."""
MAX_HELD_BYTES = 128 * 1024 * 1024
"""Bytes of incomplete bodies in the memory of one process."""
SHARE = 2
"""Large bodies may use one in so many of a process's connections."""
SHARE_OF_ONE_CLIENT = 4
"""The same for the large bodies of one client address."""


class RsgiProtocol(Protocol):
    """Granian's protocol object of one request."""

    def __call__(self) -> Awaitable[bytes]:
        """Return the whole body in one await."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body in parts; an empty part when the sender disconnects."""
        ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send the response."""
        ...


class _Unfinished:
    """One incomplete body."""

    __slots__ = ("began", "client", "is_cut", "received_bytes", "task")

    def __init__(self, task: asyncio.Task[Any], began: float) -> None:
        self.task, self.began = task, began
        self.received_bytes = (
            0  # only of a body with a slot: granian does not report the progress of a small one
        )
        self.client: str | None = None  # only of a body with a slot
        self.is_cut = False

    def behind_bytes(self, now: float) -> float:
        """Return how many bytes are missing to the minimum rate; negative while it is kept."""
        return (now - self.began - GRACE_SECONDS) * BYTES_PER_SECOND - self.received_bytes


class Bodies:
    """Reads bodies within the limits of one process of ``connections`` connections."""

    def __init__(self, connections: int) -> None:
        self._most = max(1, connections // SHARE)
        self._most_of_one = max(1, connections // SHARE_OF_ONE_CLIENT)
        self._unfinished: dict[_Unfinished, None] = {}
        self._held_bytes = 0

    async def read(self, protocol: RsgiProtocol, stated: str, find_client: Callable[[], str]) -> bytes:
        """Return the whole body of a request whose ``Content-Length`` is ``stated``.

        Raises ``BodyTooLarge`` as soon as the limit is exceeded, and ``Unavailable`` when the sender
        disconnects, is slower than ``BYTES_PER_SECOND``, or is cancelled for another. ``find_client`` is
        called for a body that needs a slot.
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
                return await protocol()
            self._admit(one, find_client())
            return await self._collect(one, protocol, size, is_stated=bool(stated))
        except asyncio.CancelledError as fault:
            if not one.is_cut:
                raise  # the server stops
            task.uncancel()
            raise Unavailable("the body was too slow, or was cancelled for another") from fault
        except ProtocolClosed as fault:
            raise Unavailable("the sender disconnected") from fault
        finally:
            del self._unfinished[one]
            self._held_bytes -= one.received_bytes

    async def _collect(
        self, one: _Unfinished, protocol: RsgiProtocol, size: int, *, is_stated: bool
    ) -> bytes:
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
                self._cut_worst(list(self._unfinished), least_age_seconds=0)
        if is_stated and one.received_bytes < size:
            raise Unavailable("the sender disconnected")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def cut_late(self, now: float) -> None:
        """Cancel every body that is slower than the minimum rate."""
        for one in list(self._unfinished):
            if now - one.began <= GRACE_SECONDS:
                return  # ordered by start
            if one.behind_bytes(now) > 0:
                self._cut(one)

    def make_way(self, count: int, now: float) -> None:
        """Cancel up to ``count`` bodies, those furthest behind, to free connections."""
        for one in _find_worst(list(self._unfinished), now, LEAST_AGE_SECONDS)[:count]:
            self._cut(one)

    def _admit(self, one: _Unfinished, client: str) -> None:
        """Give ``one`` a slot; if too many are used, cancel the body furthest behind."""
        one.client = client
        with_slot = [other for other in self._unfinished if other.client is not None and not other.is_cut]
        of_one = [other for other in with_slot if other.client == client]
        if len(of_one) > self._most_of_one:
            self._cut_worst(of_one)
        elif len(with_slot) > self._most:
            self._cut_worst(with_slot)

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
    """Return the bodies that may be cancelled, the one furthest behind first."""
    old = [one for one in of if not one.is_cut and now - one.began >= least_age_seconds]
    return sorted(old, key=lambda one: one.behind_bytes(now), reverse=True)
