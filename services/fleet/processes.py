"""Supervisor: keeps a fleet's processes running, shows their output, and ends them together.

One background thread reads, restarts and stops; any other thread may call the methods.
"""

import http.client
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO
from urllib.parse import urlsplit

from services.fleet.child import Child, Program, format_exit
from services.fleet.errors import FleetError, ServerFailed
from services.fleet.reaper import Reaper
from services.fleet.stream import LineBuffer, LogStream

STOP_SECONDS = 7.0
_POLL_SECONDS = 0.25
_STEADY_SECONDS = 30.0
_LONGEST_DELAY_SECONDS = 30.0


def restart_delay_seconds(failures: int) -> float:
    """Return the wait before the next start: 0.5, 1, 2, 4 ... at most 30 seconds."""
    return float(min(_LONGEST_DELAY_SECONDS, 0.5 * 2 ** min(failures - 1, 10)))


@dataclass(slots=True)
class _Managed:
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
        managed = [_Managed(child, adopted=True) for child in adopted]
        managed += [_Managed(Child(program, reaper), adopted=False) for program in programs]
        self._managed = {w.child.name: w for w in managed}
        self.stream = LogStream(["fleet", *self._managed], out or sys.stdout)
        self._selector = selectors.DefaultSelector()
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start every process. One that cannot start is logged and tried again."""
        with self._lock:
            for managed in self._managed.values():
                if not managed.adopted:
                    self._start(managed)
        self._thread.start()

    def pids(self) -> dict[str, int | None]:
        """Return each process's id by its name; None while it is down."""
        return {name: w.child.pid for name, w in self._managed.items()}

    def restarts(self) -> dict[str, int]:
        """Return how often each process was restarted."""
        return {name: w.restarts for name, w in self._managed.items()}

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process. It is restarted if that ends it."""
        self._get(name).child.send_signal(number)

    def hold(self, name: str, *, grace_seconds: float = 5.0) -> None:
        """End one process and keep it down until ``release``."""
        managed = self._get(name)
        with self._lock:
            managed.held = True
            managed.child.stop(grace_seconds)
            managed.start_at_seconds = None

    def release(self, name: str) -> None:
        """Start a held process again."""
        managed = self._get(name)
        with self._lock:
            managed.held = False
            managed.start_at_seconds = time.monotonic()

    def find_unhealthy(self) -> list[str]:
        """Return the names of processes that are down, or whose health address does not answer 200."""
        return [name for name, w in self._managed.items() if not _is_healthy(w.child)]

    def wait_healthy(self, timeout_seconds: float = 30.0) -> None:
        """Return once every process is healthy; ``ServerFailed`` names those that are not in time."""
        deadline = time.monotonic() + timeout_seconds
        while (unhealthy := self.find_unhealthy()) and not self._stopping.is_set():
            if time.monotonic() > deadline:
                raise ServerFailed(f"not healthy after {timeout_seconds:.0f} s: {', '.join(unhealthy)}")
            self._stopping.wait(0.2)

    def request_stop(self) -> None:
        """Begin the stop; returns at once. A second call ends the wait for running processes."""
        if self._stopping.is_set():
            self._hurry.set()
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
            os.set_blocking(output.fileno(), False)
            self._selector.register(output, selectors.EVENT_READ, managed)

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
        while not self._stopping.is_set():
            self._read(_POLL_SECONDS)
            if self.stream.broken:
                return
            now = time.monotonic()
            if now > reaper_due:
                self._reaper.ensure_alive()
                reaper_due = now + 1
            with self._lock:
                for managed in self._managed.values():
                    self._check(managed, now)

    def _check(self, managed: _Managed, now: float) -> None:
        """Start the process if its restart is due; plan a restart if it has ended."""
        if managed.start_at_seconds is not None:
            if now >= managed.start_at_seconds:
                managed.restarts += 1
                self._start(managed)
            return
        code = None if managed.held else managed.child.poll()
        if code is not None:
            managed.child.clean_up()
            self._plan_restart(managed, format_exit(code))

    def _end_all(self) -> None:
        children = [w.child for w in self._managed.values() if not w.adopted]
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            child.begin_stop()
        while any(child.poll() is None for child in children) and time.monotonic() < deadline:
            if self._hurry.is_set():
                break
            self._read(0.05)
        for child in children:
            if child.poll() is None:
                self._log(f"{child.name}: did not end in time, killed")
            child.end_stop(0.0)
        self._read(0.0)
        self._selector.close()

    def _read(self, timeout_seconds: float) -> None:
        """Show the processes' output; wait at most ``timeout_seconds`` for the first of it."""
        if not self._selector.get_map():
            time.sleep(timeout_seconds)
            return
        for key, _ in self._selector.select(timeout_seconds):
            managed: _Managed = key.data
            try:
                chunk = os.read(key.fd, 65_536)
            except BlockingIOError:
                continue
            lines = managed.lines.feed(chunk) if chunk else managed.lines.drain()
            for line in lines:
                self.stream.write(managed.child.name, line)
            if not chunk:
                self._selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]


def _is_healthy(child: Child) -> bool:
    """Return whether the process runs and its health address answers 200 within 2 s.

    One without a health address is healthy after its first second.
    """
    if child.pid is None:
        return False
    if not child.program.health_url:
        return time.monotonic() - child.started_at_seconds > 1
    parts = urlsplit(child.program.health_url)
    link = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2.0)
    try:
        link.request("GET", parts.path or "/")
        return link.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()
