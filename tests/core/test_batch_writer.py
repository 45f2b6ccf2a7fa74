"""BatchWriter: threads that write at the same time share a transaction."""

import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType

import pytest

from services.core.batch_writer import BatchWriter


class Writes:
    """Writes that wait for ``go``, and the values of each."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.writer: BatchWriter[int, int] = BatchWriter(self.write)
        self.answers: list[int] = []

    def write(self, values: Sequence[int]) -> list[int]:
        self.groups.append(sorted(values))
        self.begun.set()
        assert self.go.wait(60)
        return [10 * one for one in values]

    def start(self, value: int) -> threading.Thread:
        thread = threading.Thread(target=lambda: self.answers.append(self.writer.submit(value)), daemon=True)
        thread.start()
        return thread

    def await_waiting(self, count: int, is_alive: Callable[[], bool] = lambda: True) -> None:
        while len(self.writer._queue) < count:
            assert is_alive()


def test_threads_that_wait_for_a_write_share_the_next_one() -> None:
    writes = Writes()
    threads = [writes.start(0)]
    assert writes.begun.wait(60)
    threads += [writes.start(n) for n in range(1, 5)]
    writes.await_waiting(4, lambda: all(thread.is_alive() for thread in threads))
    writes.go.set()
    for thread in threads:
        thread.join(60)

    assert writes.groups == [[0], [1, 2, 3, 4]]
    assert sorted(writes.answers) == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_wait_that_a_time_limit_ends_writes_nothing_and_stops_no_other(is_first: bool) -> None:
    writes = Writes()
    threads = [writes.start(0)]
    assert writes.begun.wait(60)
    if not is_first:
        threads.append(writes.start(1))
        writes.await_waiting(1)

    def interrupt() -> None:
        writes.await_waiting(2 - is_first)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def end_the_wait(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError

    usual = signal.signal(signal.SIGUSR1, end_the_wait)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(TimeoutError):
            writes.writer.submit(7)
    finally:
        signal.signal(signal.SIGUSR1, usual)
    threads.append(writes.start(2))
    writes.await_waiting(2 - is_first)
    writes.go.set()
    for thread in threads:
        thread.join(60)

    assert [one for group in writes.groups for one in group] == ([0, 2] if is_first else [0, 1, 2])
    assert writes.writer.submit(3) == 30


def test_many_threads_get_their_own_results() -> None:
    groups: list[int] = []

    def write(values: Sequence[int]) -> list[int]:
        groups.append(len(values))
        return [10 * one for one in values]

    writer: BatchWriter[int, int] = BatchWriter(write)
    answers: list[bool] = []

    def work(first: int) -> None:
        answers.extend(writer.submit(n) == 10 * n for n in range(first, first + 500))

    threads = [threading.Thread(target=work, args=(500 * n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert (len(answers), all(answers), sum(groups)) == (8000, True, 8000)


def test_a_failed_write_fails_for_its_group_only() -> None:
    faults = [RuntimeError("away")]

    def write(values: Sequence[int]) -> Sequence[int]:
        if faults:
            raise faults.pop()
        return values

    writer: BatchWriter[int, int] = BatchWriter(write)

    with pytest.raises(RuntimeError, match="away"):
        writer.submit(1)
    assert writer.submit(2) == 2


class Held:
    """The writer's lock; the thread in ``holds`` goes on after its first use only once ``go_on`` is set."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.holds: int | None = None
        self.has_queued, self.go_on = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if threading.get_ident() == self.holds:
            self.holds = None
            self.has_queued.set()
            assert self.go_on.wait(60)


def test_a_thread_that_is_chosen_as_writer_before_it_waits_wakes_all_others() -> None:
    writes = Writes()
    lock = Held(writes.writer._lock)
    writes.writer._lock = lock  # type: ignore[assignment]
    first = writes.start(0)
    assert writes.begun.wait(60)

    def submit_late() -> None:
        lock.holds = threading.get_ident()
        writes.answers.append(writes.writer.submit(1))

    late = threading.Thread(target=submit_late, daemon=True)
    late.start()
    assert lock.has_queued.wait(60)
    other = writes.start(2)
    writes.await_waiting(2, other.is_alive)
    writes.go.set()
    first.join(60)  # it has chosen the late thread, which does not wait yet
    lock.go_on.set()
    for thread in (late, other):
        thread.join(60)

    assert sorted(writes.answers) == [0, 10, 20]
    assert writes.groups == [[0], [1, 2]]
