"""Threads that write at the same time share one transaction: who comes first writes for all who wait."""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class _Waiting(Generic[Asked, Answer]):
    __slots__ = ("answer", "asked", "fault", "is_done")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.is_done = False
        self.answer: list[Answer] = []
        self.fault: BaseException | None = None


class BatchWriter(Generic[Asked, Answer]):
    """Calls ``write`` with everything that waits. Nothing ever waits for company."""

    def __init__(self, write: Callable[[Sequence[Asked]], Sequence[Answer]]) -> None:
        self._write = write
        self._queue: list[_Waiting[Asked, Answer]] = []
        self._queue_lock, self._turn = Lock(), Lock()

    def submit(self, asked: Asked) -> Answer:
        """Return the answer to ``asked`` once its group is written; raise what the writing raised."""
        mine: _Waiting[Asked, Answer] = _Waiting(asked)
        with self._queue_lock:
            self._queue.append(mine)
        with self._turn:
            if not mine.is_done:
                self._write_all()
        if mine.fault is not None:
            raise mine.fault
        return mine.answer[0]

    def _write_all(self) -> None:
        with self._queue_lock:
            group, self._queue = self._queue, []
        try:
            answers = self._write([one.asked for one in group])
            for one, answer in zip(group, answers, strict=True):
                one.answer.append(answer)
        except BaseException as fault:  # noqa: BLE001 - each of them raises it
            for one in group:
                one.fault = fault
        finally:
            for one in group:
                one.is_done = True
