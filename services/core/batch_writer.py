"""Write combiner: threads that write at the same time share one transaction, which the first one runs."""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")


class _Waiting(Generic[Value, Result]):
    __slots__ = ("error", "is_done", "result", "value")

    def __init__(self, value: Value) -> None:
        self.value = value
        self.is_done = False
        self.result: list[Result] = []
        self.error: BaseException | None = None


class BatchWriter(Generic[Value, Result]):
    """Calls ``write`` with all waiting values. A single value is written without a delay."""

    def __init__(self, write: Callable[[Sequence[Value]], Sequence[Result]]) -> None:
        self._write = write
        self._queue: list[_Waiting[Value, Result]] = []
        self._queue_lock, self._turn = Lock(), Lock()

    def submit(self, value: Value) -> Result:
        """Return the result of ``value`` once its batch is written; raise what ``write`` raised."""
        own: _Waiting[Value, Result] = _Waiting(value)
        with self._queue_lock:
            self._queue.append(own)
        with self._turn:
            if not own.is_done:
                self._write_all()
        if own.error is not None:
            raise own.error
        return own.result[0]

    def _write_all(self) -> None:
        with self._queue_lock:
            batch, self._queue = self._queue, []
        try:
            results = self._write([one.value for one in batch])
            for one, result in zip(batch, results, strict=True):
                one.result.append(result)
        except BaseException as error:  # noqa: BLE001 - each of them raises it
            for one in batch:
                one.error = error
        finally:
            for one in batch:
                one.is_done = True
