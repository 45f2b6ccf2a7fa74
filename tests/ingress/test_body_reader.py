"""Incomplete request bodies: their limits, and which one is cut for another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]

from services.ingress import body_reader
from services.ingress.body_reader import BYTES_PER_SECOND, GRACE_SECONDS, SMALL_BYTES, BodyReader
from services.ingress.group_commit import Unavailable
from services.ingress.webhooks import MAX_BODY_BYTES, BodyTooLarge

LARGE = SMALL_BYTES + 1


class FakeProtocol:
    """RSGI protocol with body parts from the test; ``None``: the sender disconnected."""

    def __init__(self, *parts: bytes | None) -> None:
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        for part in parts:
            self._parts.put_nowait(part)

    def put(self, part: bytes | None) -> None:
        self._parts.put_nowait(part)

    async def __call__(self) -> bytes:
        if (whole := await self._parts.get()) is None:
            raise ProtocolClosed("as granian says it")
        return whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part

    def response_bytes(self, *_: Any) -> None:
        raise NotImplementedError


class Reader:
    """Reads bodies in tasks. The test sets the clock of the loop."""

    def __init__(self, connections: int) -> None:
        self.body_reader = BodyReader(connections)
        loop = asyncio.get_running_loop()
        now = loop.time()
        loop.time = lambda: now  # type: ignore[method-assign]

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def begin(
        self, size: int | str, client: str = "a", parts: tuple[bytes | None, ...] = ()
    ) -> tuple[FakeProtocol, "asyncio.Task[bytes]"]:
        line = FakeProtocol(*parts)
        task = asyncio.create_task(self.body_reader.read(line, str(size), lambda: client))
        # The garbage collector would log an error that no test reads.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await settle()
        return line, task


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def old_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every body old enough to be cut for another."""
    monkeypatch.setattr(body_reader, "LEAST_AGE_SECONDS", 0.0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    asyncio.run(whole())


def cut(tasks: list["asyncio.Task[bytes]"]) -> list[int]:
    return [n for n, task in enumerate(tasks) if task.done() and isinstance(task.exception(), Unavailable)]


def test_body_is_whole_when_its_stated_length_is_here_and_nothing_more_is_read() -> None:
    async def test() -> None:
        reader = Reader(8)
        _, small = await reader.begin(6, parts=(b"abcdef",))
        _, large = await reader.begin(LARGE, parts=(b" " * SMALL_BYTES, b" "))
        _, empty = await reader.begin(0)
        _, unstated = await reader.begin("", parts=(b"abc", b"d", None))
        assert (await small, await empty, await unstated) == (b"abcdef", b"", b"abcd")
        assert await large == b" " * LARGE

    run(test)


def test_body_over_the_limit_is_refused_as_soon_as_it_is_known_to_be() -> None:
    async def test() -> None:
        reader = Reader(8)
        _, stated = await reader.begin(MAX_BODY_BYTES + 1)
        _, unstated = await reader.begin("", parts=(b" " * MAX_BODY_BYTES, b" "))
        for task in (stated, unstated):
            with pytest.raises(BodyTooLarge):
                await task

    run(test)


@pytest.mark.parametrize(("size", "parts"), [(6, (None,)), (LARGE, (b"abc", None))])
def test_disconnected_sender_is_not_reported_as_a_bug(size: int, parts: tuple[bytes | None, ...]) -> None:
    async def test() -> None:
        _, task = await Reader(8).begin(size, parts=parts)
        with pytest.raises(Unavailable):
            await task

    run(test)


def test_body_slower_than_the_least_rate_is_cut_and_one_that_keeps_up_is_not() -> None:
    async def test() -> None:
        reader = Reader(64)
        lines, tasks = zip(*[await reader.begin(MAX_BODY_BYTES) for _ in range(2)], strict=True)
        lines[1].put(b" " * 2 * BYTES_PER_SECOND)
        await settle()
        reader.body_reader.cancel_late(reader.now() + GRACE_SECONDS - 0.1)
        await settle()
        assert cut([*tasks]) == []
        reader.body_reader.cancel_late(reader.now() + GRACE_SECONDS + 1)
        await settle()
        assert cut([*tasks]) == [0]
        reader.body_reader.cancel_late(reader.now() + GRACE_SECONDS + 3)
        await settle()
        assert cut([*tasks]) == [0, 1]

    run(test)


@pytest.mark.usefixtures("old_bodies")
def test_full_share_cuts_the_body_furthest_behind_and_takes_the_next() -> None:
    async def test() -> None:
        reader = Reader(8)  # a share of 4, and of 2 for each client
        begun = [await reader.begin(LARGE, client=name) for name in "abcd"]
        lines, tasks = [line for line, _ in begun], [task for _, task in begun]
        for n in (0, 1, 3):
            lines[n].put(b" " * (SMALL_BYTES // 2))  # half a second ahead: more than the starts are apart
        await settle()

        _, fifth = await reader.begin(LARGE, client="e", parts=(b" " * LARGE,))

        assert cut(tasks) == [2]
        assert len(await fifth) == LARGE

    run(test)


@pytest.mark.usefixtures("old_bodies")
def test_each_client_has_its_own_share() -> None:
    async def test() -> None:
        reader = Reader(8)  # a share of 4, and of 2 for each client
        tasks = [(await reader.begin(LARGE, client=name))[1] for name in "abaa"]

        assert cut(tasks) == [0]  # the first of the three of client a

    run(test)


def test_many_large_bodies_at_once_are_all_read() -> None:
    async def test() -> None:
        reader = Reader(8)
        begun = [await reader.begin(LARGE) for _ in range(50)]
        for line, _ in begun:
            line.put(b" " * LARGE)

        assert [len(await task) for _, task in begun] == [LARGE] * 50

    run(test)


@pytest.mark.usefixtures("old_bodies")
def test_small_body_takes_nothing_of_the_share_and_is_complete_in_time_or_cut() -> None:
    async def test() -> None:
        reader = Reader(8)
        large = [(await reader.begin(LARGE, client=name))[1] for name in "abcd"]
        small = [await reader.begin(SMALL_BYTES, client="e") for _ in range(100)]
        for line, _ in small[1:]:
            line.put(b" " * SMALL_BYTES)
        assert [len(await task) for _, task in small[1:]] == [SMALL_BYTES] * 99
        assert cut(large) == []

        reader.body_reader.cancel_late(reader.now() + GRACE_SECONDS + 0.1)
        await settle()

        assert cut([small[0][1]]) == [0]

    run(test)


def test_held_bytes_are_bounded_by_cutting_not_by_refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_reader, "MAX_HELD_BYTES", 100_000)

    async def test() -> None:
        reader = Reader(64)
        _, slow = await reader.begin(LARGE, client="a", parts=(b" " * 50_000,))
        _, quick = await reader.begin(90_000, client="b", parts=(b" " * 60_000, b" " * 30_000))

        assert cut([slow]) == [0]
        assert len(await quick) == 90_000
        _, again = await reader.begin(90_000, client="b", parts=(b" " * 90_000,))
        assert len(await again) == 90_000  # read bytes are no longer counted

    run(test)


def test_connections_that_run_short_are_taken_from_the_bodies_furthest_behind() -> None:
    async def test() -> None:
        reader = Reader(64)
        begun = [await reader.begin(size) for size in (LARGE, 1000, LARGE)]
        begun[0][0].put(b" " * 10)
        await settle()
        reader.body_reader.cancel_slowest(2, reader.now())  # all are below the age limit of a body
        await settle()
        assert cut([task for _, task in begun]) == []
        reader.body_reader.cancel_slowest(2, reader.now() + 1)
        await settle()
        assert cut([task for _, task in begun]) == [1, 2]

    run(test)
