"""Group commit: requests that arrive together share one statement and one commit.

While one group commits in a thread, the next is collected; no request waits for a group to fill. Everything
except the statement runs on the event loop of the process.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine

from services.core.db import KeptConnection, is_connection_fault
from services.ledger.accept import AcceptedEvent, NewEvent, WorkRef, record_events
from services.ledger.dispatch import send_messages

MAX_GROUP = 256
MAX_GROUP_BYTES = 16 * 1024 * 1024
MAX_WAITING = 2048
MAX_WAITING_BYTES = 64 * 1024 * 1024
ANSWER_WITHIN_SECONDS = 1.8
"""The response is 503 within two seconds if the database does not answer."""
CHECK_SECONDS = 0.1
MAX_WAITING_REFS = 50_000
"""Most rows that wait for their message. Beyond it messages are dropped, and the sweep sends them later."""
GATHER_SECONDS = 0.02
"""Under load messages are sent at most this often, each for many rows. The first is sent at once."""
BROKER_RETRY_SECONDS = 1.0


class Unavailable(Exception):
    """The event was not recorded in time. The provider sends it again."""


class _Request:
    __slots__ = ("answer", "deadline", "event")

    def __init__(self, event: NewEvent, answer: asyncio.Future[AcceptedEvent], deadline: float) -> None:
        self.event, self.answer, self.deadline = event, answer, deadline


class GroupCommit:
    """One committing thread with a bounded queue. ``notify`` gets the work of each committed group."""

    def __init__(self, engine: Engine, notify: Callable[[Sequence[WorkRef]], None]) -> None:
        self._writer, self._notify = KeptConnection(engine), notify
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="group-commit")
        self._waiting: deque[_Request] = deque()
        self._group: list[_Request] = []
        self._bytes = 0
        self._busy = self._closing = self._watching = False

    def record(self, event: NewEvent) -> asyncio.Future[AcceptedEvent]:
        """Return a future for the result of ``event``, set once it is committed.

        Raises ``Unavailable`` if too many requests wait; the future raises it if the database fails or does
        not answer in time.
        """
        if self._closing:
            raise Unavailable("stopping")
        if len(self._waiting) >= MAX_WAITING or self._bytes + len(event.body) > MAX_WAITING_BYTES:
            raise Unavailable("too many requests wait")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[AcceptedEvent] = loop.create_future()
        self._waiting.append(_Request(event, answer, loop.time() + ANSWER_WITHIN_SECONDS))
        self._bytes += len(event.body)
        if not self._busy:
            self._busy = True
            loop.call_soon(self._commit_next)  # requests that are ready now join the group
        if not self._watching:
            self._watching = True
            loop.call_later(CHECK_SECONDS, self._fail_late)
        return answer

    async def close(self) -> None:
        """Stop accepting requests and answer all accepted ones. Safe to repeat."""
        if self._closing:
            return
        self._closing = True
        while self._busy or self._waiting:
            await asyncio.sleep(0.01)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.close)
        self._thread.shutdown()

    def _commit_next(self) -> None:
        self._group = self._take_group()
        if not self._group:
            self._busy = False
            return
        events = [waiting.event for waiting in self._group]
        commit = asyncio.get_running_loop().run_in_executor(self._thread, self._commit, events)
        commit.add_done_callback(self._answer)

    def _take_group(self) -> list[_Request]:
        group: list[_Request] = []
        size = 0
        while self._waiting and len(group) < MAX_GROUP and size < MAX_GROUP_BYTES:
            waiting = self._waiting.popleft()
            self._bytes -= len(waiting.event.body)
            # A request that was answered 503 is not recorded, because its retry would be a "duplicate".
            if not waiting.answer.done():
                size += len(waiting.event.body)
                group.append(waiting)
        return group

    def _answer(self, commit: asyncio.Future[list[AcceptedEvent | Exception]]) -> None:
        refs: list[WorkRef] = []
        for waiting, result in zip(self._group, commit.result(), strict=True):
            if isinstance(result, AcceptedEvent):
                refs += result.work
            if waiting.answer.done():
                continue
            if isinstance(result, AcceptedEvent):
                waiting.answer.set_result(result)
            else:
                fault = Unavailable("the database refused the event")
                fault.__cause__ = result
                waiting.answer.set_exception(fault)
        if refs:
            self._notify(refs)
        self._commit_next()

    def _fail_late(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for waiting in (*self._group, *self._waiting):
            if waiting.deadline < now and not waiting.answer.done():
                waiting.answer.set_exception(Unavailable("the database did not answer in time"))
        self._watching = self._busy
        if self._watching:
            loop.call_later(CHECK_SECONDS, self._fail_late)

    def _commit(self, events: list[NewEvent]) -> list[AcceptedEvent | Exception]:
        """Record ``events`` together; if that fails, one by one, so that only a bad event fails."""
        try:
            with self._writer() as tx:
                return [*record_events(tx, events)]
        except Exception as fault:  # noqa: BLE001 - each waiting request gets it
            if len(events) == 1 or is_connection_fault(fault):
                return [fault] * len(events)
            return [result for event in events for result in self._commit([event])]


class WorkerNotifier:
    """Sends messages for committed rows in a background thread."""

    def __init__(self) -> None:
        self._waiting: deque[WorkRef] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="worker-notifier", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify_workers(self, refs: Sequence[WorkRef]) -> None:
        """Queue messages for ``refs``. Does not block or raise."""
        with self._wake:
            if len(self._waiting) < MAX_WAITING_REFS:
                self._waiting.extend(refs)
                self._wake.notify()

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Send the waiting messages, and stop the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting:
                    if self._closing:
                        return
                    self._wake.wait()
                refs = list(self._waiting)
                self._waiting.clear()
            is_sent = send_messages(refs)
            if self._closing:
                return
            if not is_sent:
                time.sleep(BROKER_RETRY_SECONDS)
            elif len(refs) > 1:
                time.sleep(GATHER_SECONDS)
