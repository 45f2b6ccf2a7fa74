"""Write combiner: threads that write at the same time share one transaction, which one of them runs."""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")


class _Waiting(Generic[Value, Result]):
    __slots__ = ("error", "is_done", "is_writer", "result", "value", "woken")

    def __init__(self, value: Value) -> None:
        self.value = value
        self.is_done = self.is_writer = False
        self.result: list[Result] = []
        self.error: BaseException | None = None
        self.woken = Lock()
        self.woken.acquire()


class BatchWriter(Generic[Value, Result]):
    """Calls ``write`` with all waiting values. A single value is written without a delay.

    A thread is woken once: with its result, or to write the values that came in the meantime.
    """

    def __init__(self, write: Callable[[Sequence[Value]], Sequence[Result]]) -> None:
        self._write = write
        self._queue: list[_Waiting[Value, Result]] = []
        self._lock, self._is_writing = Lock(), False

    def submit(self, value: Value) -> Result:
        """Return the result of ``value`` once its batch is written; raise what ``write`` raised."""
        own: _Waiting[Value, Result] = _Waiting(value)
        with self._lock:
            self._queue.append(own)
            is_first, self._is_writing = not self._is_writing, True
            own.is_writer = is_first
        try:
            # Not ``own.is_writer``: a writer that ends here may choose this thread before it waits.
            if not is_first:
                own.woken.acquire()
            if own.is_writer:
                self._write_all()
        except BaseException:
            self._leave(own)  # a time limit of the task ended the wait: the others go on
            raise
        if own.error is not None:
            raise own.error
        return own.result[0]

    def _write_all(self) -> None:
        with self._lock:
            batch, self._queue = self._queue, []
        try:
            results = self._write([one.value for one in batch])
            for one, result in zip(batch, results, strict=True):
                one.result.append(result)
        except BaseException as error:  # noqa: BLE001 - each of them raises it
            for one in batch:
                one.error = error
        finally:
            self._wake_next()
            for one in batch:
                one.is_done = True
                one.woken.release()

    def _wake_next(self) -> None:
        with self._lock:
            self._is_writing = bool(self._queue)
            if self._queue:
                self._queue[0].is_writer = True
                self._queue[0].woken.release()

    def _leave(self, own: _Waiting[Value, Result]) -> None:
        with self._lock:
            if own in self._queue:
                self._queue.remove(own)
        if own.is_writer and not own.is_done:
            self._wake_next()
