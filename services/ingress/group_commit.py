"""Group commit: requests that arrive together share one insert and one commit.

Each request thread hands over its event and waits; the process's one writer takes whatever has
queued, records it in one transaction, and wakes each waiter with its own answer. A group is never
waited for: with one client it has one event. Whoever is answered has a committed row.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from sqlalchemy import Engine

from services.core.db import KeptConnection
from services.ledger.accept import Accepted, NewEvent, WorkRef, record_events
from services.ledger.report import is_connection_fault

MAX_GROUP = 256
MAX_GROUP_BYTES = 16 * 1024 * 1024
MAX_WAITING = 1024
MAX_WAITING_BYTES = 64 * 1024 * 1024
ANSWER_WITHIN_SECONDS = 1.8
"""A provider is told 503 within two seconds when the database does not answer."""


class Unavailable(Exception):
    """The event was not recorded, or not in time to say so. The provider sends it again."""


class _Waiting:
    __slots__ = ("answer", "done", "event", "fault", "given_up")

    def __init__(self, event: NewEvent) -> None:
        self.event = event
        self.answer: Accepted | None = None
        self.fault: Exception | None = None
        self.given_up = False
        self.done = threading.Lock()
        self.done.acquire()


class GroupCommit:
    """One writer thread over a bounded queue. ``rung`` is called with the work of each committed group."""

    def __init__(self, engine: Engine, rung: Callable[[Sequence[WorkRef]], None]) -> None:
        self._writer, self._rung = KeptConnection(engine), rung
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def record(self, event: NewEvent) -> Accepted:
        """Return what became of ``event`` once it is committed; raise ``Unavailable`` when it is not."""
        waiting = _Waiting(event)
        with self._wake:
            full = len(self._waiting) >= MAX_WAITING or self._bytes + len(event.body) > MAX_WAITING_BYTES
            if full or self._closing:
                raise Unavailable("stopping" if self._closing else "the queue is full")
            self._waiting.append(waiting)
            self._bytes += len(event.body)
            self._wake.notify()
        if not waiting.done.acquire(timeout=ANSWER_WITHIN_SECONDS):
            waiting.given_up = True
            raise Unavailable("the database did not answer in time")
        if waiting.answer is None:
            raise Unavailable("the database is away") from waiting.fault
        return waiting.answer

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Everything that was handed over is answered; nothing more is taken."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while group := self._next_group():
            self._write(group)
        self._writer.close()

    def _next_group(self) -> list[_Waiting]:
        with self._wake:
            while not self._waiting:
                if self._closing:
                    return []
                self._wake.wait()
            group: list[_Waiting] = []
            size = 0
            while self._waiting and len(group) < MAX_GROUP and size < MAX_GROUP_BYTES:
                waiting = self._waiting.popleft()
                size += len(waiting.event.body)
                group.append(waiting)
            self._bytes -= size
            return group

    def _write(self, group: list[_Waiting]) -> None:
        # Whoever gave up was told 503: not recording it spares the provider's retry a "duplicate".
        group = [waiting for waiting in group if not waiting.given_up]
        if not group:
            return
        try:
            self._commit(group)
        except Exception as fault:  # noqa: BLE001 - each waiter is told, whatever it was
            if len(group) > 1 and not is_connection_fault(fault):
                # One event that the database will not have must not take its neighbours with it.
                for waiting in group:
                    self._write([waiting])
                return
            for waiting in group:
                waiting.fault = fault
                waiting.done.release()
            if is_connection_fault(fault):
                time.sleep(0.05)  # a database that refuses at once must not spin this thread

    def _commit(self, group: list[_Waiting]) -> None:
        with self._writer() as tx:
            answers = record_events(tx, [waiting.event for waiting in group])
        for waiting, answer in zip(group, answers, strict=True):
            waiting.answer = answer
            waiting.done.release()
        refs = [ref for answer in answers for ref in answer.work]
        if refs:
            self._rung(refs)
