"""Keeps a fleet's processes running, shows what they say, and ends them all together.

One background thread reads, restarts and stops; the methods may be called from any other thread.
"""

import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from services.fleet.child import Child, Program, tell_exit
from services.fleet.errors import FleetError, ServerFailed
from services.fleet.health import answers
from services.fleet.orphans import record_processes
from services.fleet.reaper import Guard
from services.fleet.stream import LineBuffer, LogStream

STOP_SECONDS = 7.0
_LOOK_EVERY_SECONDS = 0.25
_STEADY_SECONDS = 30.0
_LONGEST_DELAY_SECONDS = 30.0


def restart_delay_seconds(failures: int) -> float:
    """Return the wait before the next start: 0.5, 1, 2, 4 ... at most 30 seconds."""
    return float(min(_LONGEST_DELAY_SECONDS, 0.5 * 2 ** min(failures - 1, 10)))


@dataclass(slots=True)
class _Watched:
    child: Child
    adopted: bool
    lines: LineBuffer = field(default_factory=LineBuffer)
    failures: int = 0
    restarts: int = 0
    start_at_seconds: float | None = None
    """When to start it again (monotonic); None while it runs."""
    held: bool = False


class Supervisor:
    """A fleet's processes by name. Use as: ``start``, ``wait_healthy``, ``wait``, ``stop``.

    ``adopted`` children run already and are restarted like the others, but outlive ``stop``: the
    servers must not end before those who use them.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        guard: Guard,
        adopted: Sequence[Child] = (),
        out: TextIO | None = None,
        record: Path | None = None,
    ) -> None:
        self._guard = guard
        self._record = record
        watched = [_Watched(child, adopted=True) for child in adopted]
        watched += [_Watched(Child(program, guard), adopted=False) for program in programs]
        self._watched = {w.child.name: w for w in watched}
        self.stream = LogStream(["fleet", *self._watched], out or sys.stdout)
        self._selector = selectors.DefaultSelector()
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Leave every process started and watched. One that cannot start is tried again, and said so."""
        with self._lock:
            for watched in self._watched.values():
                if not watched.adopted:
                    self._start(watched)
        self._thread.start()

    def pids(self) -> dict[str, int | None]:
        """Return each process's id by its name; None while it is down."""
        return {name: w.child.pid for name, w in self._watched.items()}

    def restarts(self) -> dict[str, int]:
        """Return how often each process was started again."""
        return {name: w.restarts for name, w in self._watched.items()}

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process. It is restarted if that ends it."""
        self._get(name).child.send_signal(number)

    def hold(self, name: str, *, grace_seconds: float = 5.0) -> None:
        """End one process and keep it down until ``release``."""
        watched = self._get(name)
        with self._lock:
            watched.held = True
            watched.child.stop(grace_seconds)
            watched.start_at_seconds = None

    def release(self, name: str) -> None:
        """Start a held process again."""
        watched = self._get(name)
        with self._lock:
            watched.held = False
            watched.start_at_seconds = time.monotonic()

    def find_unhealthy(self) -> list[str]:
        """Return the names of processes that are down, or whose health address does not answer 200."""
        return [name for name, w in self._watched.items() if not _is_healthy(w.child)]

    def wait_healthy(self, timeout_seconds: float = 30.0) -> None:
        """Return once every process is healthy; ``ServerFailed`` names those that are not in time."""
        deadline = time.monotonic() + timeout_seconds
        while (unhealthy := self.find_unhealthy()) and not self._stopping.is_set():
            if time.monotonic() > deadline:
                raise ServerFailed(f"not healthy after {timeout_seconds:.0f} s: {', '.join(unhealthy)}")
            self._stopping.wait(0.2)

    def request_stop(self) -> None:
        """Ask for the stop; returns at once. Asked twice, nobody is waited for any more."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Return True once a stop was asked for, False when the time ran out."""
        return self._stopping.wait(timeout_seconds)

    def stop(self) -> None:
        """Leave no process of ours, and none of their groups. Safe to repeat."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _get(self, name: str) -> _Watched:
        if name not in self._watched:
            raise FleetError(f"no process named {name!r}: there are {', '.join(self._watched)}")
        return self._watched[name]

    def _say(self, text: str) -> None:
        self.stream.write("fleet", text)

    def _start(self, watched: _Watched) -> None:
        watched.start_at_seconds = None
        try:
            watched.child.start()
        except (OSError, FleetError) as error:
            self._plan_restart(watched, f"cannot start: {error}")
            return
        output = watched.child.output
        if output is not None:
            os.set_blocking(output.fileno(), False)
            self._selector.register(output, selectors.EVENT_READ, watched)
        if self._record is not None:
            record_processes(self._record, self.pids())

    def _plan_restart(self, watched: _Watched, why: str) -> None:
        ran_for = time.monotonic() - watched.child.started_at_seconds
        watched.failures = 1 if ran_for > _STEADY_SECONDS else watched.failures + 1
        delay = restart_delay_seconds(watched.failures)
        watched.start_at_seconds = time.monotonic() + delay
        self._say(f"{watched.child.name}: {why}; starting it again in {delay:g} s")

    def _run(self) -> None:
        try:
            self._look_after_all()
        finally:
            self._stopping.set()
            self._end_all()

    def _look_after_all(self) -> None:
        guard_due = 0.0
        while not self._stopping.is_set():
            self._read(_LOOK_EVERY_SECONDS)
            if self.stream.broken:
                return
            now = time.monotonic()
            if now > guard_due:
                self._guard.ensure_alive()
                guard_due = now + 1
            with self._lock:
                for watched in self._watched.values():
                    self._look_after(watched, now)

    def _look_after(self, watched: _Watched, now: float) -> None:
        """Start what is due, and plan the start of what has ended."""
        if watched.start_at_seconds is not None:
            if now >= watched.start_at_seconds:
                watched.restarts += 1
                self._start(watched)
            return
        code = None if watched.held else watched.child.poll()
        if code is not None:
            watched.child.bury()
            self._plan_restart(watched, tell_exit(code))

    def _end_all(self) -> None:
        mine = [w.child for w in self._watched.values() if not w.adopted]
        deadline = time.monotonic() + STOP_SECONDS
        for child in mine:
            child.begin_stop()
        while any(child.poll() is None for child in mine) and time.monotonic() < deadline:
            if self._hurry.is_set():
                break
            self._read(0.05)
        for child in mine:
            if child.poll() is None:
                self._say(f"{child.name}: did not end in time, killed")
            child.end_stop(0.0)
        self._read(0.0)
        self._selector.close()
        if self._record is not None:
            self._record.unlink(missing_ok=True)

    def _read(self, timeout_seconds: float) -> None:
        """Show what the processes have said, waiting at most so long for the first of it."""
        if not self._selector.get_map():
            time.sleep(timeout_seconds)
            return
        for key, _ in self._selector.select(timeout_seconds):
            watched: _Watched = key.data
            try:
                chunk = os.read(key.fd, 65_536)
            except BlockingIOError:
                continue
            lines = watched.lines.feed(chunk) if chunk else watched.lines.drain()
            for line in lines:
                self.stream.write(watched.child.name, line)
            if not chunk:
                self._selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]


def _is_healthy(child: Child) -> bool:
    """Say whether the process runs and answers; one without an address counts after its first second."""
    if child.pid is None:
        return False
    if child.program.health_url:
        return answers(child.program.health_url)
    return time.monotonic() - child.started_at_seconds > 1
