"""Supervisor: keeps a fleet's processes running, shows their output, and ends them together.

One background thread restarts and stops processes, and one per process shows its output. Any thread may call
the methods.
"""

import http.client
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TextIO
from urllib.parse import urlsplit

from services.fleet.child import Child, Program, Reaper, format_exit
from services.fleet.errors import FleetError, ServerFailed

STOP_SECONDS = 7.0
_POLL_SECONDS = 0.25
_STEADY_SECONDS = 30.0
_LONGEST_DELAY_SECONDS = 30.0
_LONGEST_LINE = 65_536
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class LogStream:
    """Writes ``name | line``; on a terminal, names have colours unless ``NO_COLOR`` is set."""

    def __init__(self, names: Iterable[str], out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        ordered = list(names)
        self._width = max(map(len, ordered), default=0)
        coloured = out.isatty() and not os.environ.get("NO_COLOR")
        self._colours = {n: _COLOURS[i % len(_COLOURS)] for i, n in enumerate(ordered)} if coloured else {}
        self.is_closed = False
        """True once the output is closed; further lines are dropped."""

    def write(self, name: str, line: str) -> None:
        label = f"{name:<{self._width}} |"
        if name in self._colours:
            label = f"\x1b[{self._colours[name]}m{label}\x1b[0m"
        encoding = self._out.encoding or "utf-8"  # characters that it lacks are escaped
        shown = line.encode(encoding, "backslashreplace").decode(encoding)
        with self._lock:
            if self.is_closed:
                return
            try:
                self._out.write(f"{label} {shown}\n")
                self._out.flush()
            except (OSError, ValueError):  # the pipe, the terminal or the file is gone
                self.is_closed = True


def restart_delay_seconds(failures: int) -> float:
    """Return the wait before the next start: 0.5, 1, 2, 4 ... at most 30 seconds."""
    return float(min(_LONGEST_DELAY_SECONDS, 0.5 * 2 ** min(failures - 1, 10)))


@dataclass(slots=True)
class _Managed:
    child: Child
    is_adopted: bool
    failures: int = 0
    restarts: int = 0
    start_at_seconds: float | None = None
    """When to start it again (monotonic); None while it runs."""
    is_held: bool = False


class Supervisor:
    """A fleet's processes by name. Use as: ``start``, ``wait_healthy``, ``wait``, ``stop``.

    ``adopted`` children already run and are restarted like the others, but ``stop`` leaves them: servers
    must end after the processes that use them.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        reaper: Reaper,
        adopted: Sequence[Child] = (),
        out: TextIO | None = None,
    ) -> None:
        self._reaper = reaper
        managed = [_Managed(child, is_adopted=True) for child in adopted]
        managed += [_Managed(Child(program, reaper), is_adopted=False) for program in programs]
        self._managed = {one.child.name: one for one in managed}
        self.stream = LogStream(["fleet", *self._managed], out or sys.stdout)
        self._readers: list[threading.Thread] = []
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._kill_now = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start every process. One that cannot start is logged and tried again."""
        with self._lock:
            for managed in self._managed.values():
                if not managed.is_adopted:
                    self._start(managed)
        self._thread.start()

    def pids(self) -> dict[str, int | None]:
        """Return the process ids by name; None for a process that is down."""
        return {name: managed.child.pid for name, managed in self._managed.items()}

    def restarts(self) -> dict[str, int]:
        return {name: managed.restarts for name, managed in self._managed.items()}

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process, which is restarted if it ends."""
        self._get(name).child.send_signal(number)

    def hold(self, name: str, *, grace_seconds: float = 5.0) -> None:
        """End one process and keep it down until ``release``."""
        managed = self._get(name)
        with self._lock:
            managed.is_held = True
            managed.child.stop(grace_seconds)
            managed.start_at_seconds = None

    def release(self, name: str) -> None:
        managed = self._get(name)
        with self._lock:
            managed.is_held = False
            managed.start_at_seconds = time.monotonic()

    def find_unhealthy(self) -> list[str]:
        """Return the names of processes that are down or whose health URL does not answer 200."""
        return [name for name, managed in self._managed.items() if not _is_healthy(managed.child)]

    def wait_healthy(self, timeout_seconds: float = 30.0) -> None:
        """Return once every process is healthy. ``ServerFailed`` names those that are not in time."""
        deadline = time.monotonic() + timeout_seconds
        while (unhealthy := self.find_unhealthy()) and not self._stopping.is_set():
            if time.monotonic() > deadline:
                raise ServerFailed(f"not healthy after {timeout_seconds:.0f} s: {', '.join(unhealthy)}")
            self._stopping.wait(0.2)

    def request_stop(self) -> None:
        """Begin the stop and return at once. A second call kills the processes that still run."""
        if self._stopping.is_set():
            self._kill_now.set()
        self._stopping.set()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Return True once a stop was requested, False after ``timeout_seconds``."""
        return self._stopping.wait(timeout_seconds)

    def stop(self) -> None:
        """End every process and its group. Safe to repeat."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _get(self, name: str) -> _Managed:
        if name not in self._managed:
            raise FleetError(f"no process named {name!r}: there are {', '.join(self._managed)}")
        return self._managed[name]

    def _log(self, text: str) -> None:
        self.stream.write("fleet", text)

    def _start(self, managed: _Managed) -> None:
        managed.start_at_seconds = None
        try:
            managed.child.start()
        except (OSError, FleetError) as error:
            self._plan_restart(managed, f"cannot start: {error}")
            return
        output = managed.child.output
        if output is not None:
            self._readers = [reader for reader in self._readers if reader.is_alive()]
            self._readers.append(
                threading.Thread(target=self._show, args=(managed.child.name, output), daemon=True)
            )
            self._readers[-1].start()

    def _show(self, name: str, output: IO[str]) -> None:
        with output:
            while line := output.readline(_LONGEST_LINE):
                self.stream.write(name, line.rstrip("\r\n"))

    def _plan_restart(self, managed: _Managed, why: str) -> None:
        ran_for = time.monotonic() - managed.child.started_at_seconds
        managed.failures = 1 if ran_for > _STEADY_SECONDS else managed.failures + 1
        delay = restart_delay_seconds(managed.failures)
        managed.start_at_seconds = time.monotonic() + delay
        self._log(f"{managed.child.name}: {why}; starting it again in {delay:g} s")

    def _run(self) -> None:
        try:
            self._supervise()
        finally:
            self._stopping.set()
            self._end_all()

    def _supervise(self) -> None:
        reaper_due = 0.0
        while not self.stream.is_closed and not self._stopping.wait(_POLL_SECONDS):
            now = time.monotonic()
            if now > reaper_due:
                self._reaper.ensure_alive()
                reaper_due = now + 1
            with self._lock:
                for managed in self._managed.values():
                    self._check(managed, now)

    def _check(self, managed: _Managed, now: float) -> None:
        if managed.start_at_seconds is not None:
            if now >= managed.start_at_seconds:
                managed.restarts += 1
                self._start(managed)
            return
        code = None if managed.is_held else managed.child.poll()
        if code is not None:
            managed.child.clean_up()
            self._plan_restart(managed, format_exit(code))

    def _end_all(self) -> None:
        children = [managed.child for managed in self._managed.values() if not managed.is_adopted]
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            child.begin_stop()
        while any(child.poll() is None for child in children) and time.monotonic() < deadline:
            if self._kill_now.wait(0.05):
                break
        for child in children:
            if child.poll() is None:
                self._log(f"{child.name}: did not end in time, killed")
            child.end_stop(0.0)
        deadline = time.monotonic() + 1
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))


def _is_healthy(child: Child) -> bool:
    """Return whether the health URL answers 200 within 2 s; without a URL: whether ``child`` ran for 1 s."""
    if child.pid is None:
        return False
    if not child.program.health_url:
        return time.monotonic() - child.started_at_seconds > 1
    parts = urlsplit(child.program.health_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2.0)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
