"""One process of the fleet: start, stop, and clean up its process group; and the reaper of all of them.

Every child leads its own session, so that Ctrl-C reaches only the supervisor and a whole group can be ended
at once. The child registers with the reaper between fork and exec, so a killed supervisor never leaves it
behind.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from services.core.files import open_private

_REAPER_PROGRAM = Path(__file__).with_name("reaper_main.py")


class Reaper:
    """The process that ends all children if this process is killed. Restarted if it ends. Thread-safe.

    Why it is a separate process: docs/decisions/0021-orphans.md.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, bytes] = {}
        self._process: subprocess.Popen[bytes] | None = None
        # Both ends stay open here: a line that is written while no reaper runs reaches the next reaper.
        self._reading, self._writing = os.pipe()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def input_fd(self) -> int:
        """The descriptor of the reaper's input."""
        return self._writing

    def ensure_alive(self) -> None:
        """Start the reaper unless it runs."""
        with self._lock:
            if self.pid is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_REAPER_PROGRAM), str(os.getpid())],
                    stdin=self._reading,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={"PATH": os.defpath},
                    start_new_session=True,
                )
                os.write(self._writing, b"".join(self._watched.values()))

    def watch(self, pid: int, first_signal: int, last_signal: int) -> None:
        """End the group that ``pid`` leads if this process ends before ``unwatch``."""
        with self._lock:
            self._watched[pid] = watch_line(pid, first_signal, last_signal)
            os.write(self._writing, self._watched[pid])

    def unwatch(self, pid: int) -> None:
        with self._lock:
            if self._watched.pop(pid, None):
                os.write(self._writing, b"- %d\n" % pid)

    def close(self) -> None:
        """End the reaper, which first ends all processes that it watches."""
        with self._lock:
            os.close(self._writing)
            if self._process is not None:
                self._process.wait()
            os.close(self._reading)


def watch_line(pid: int, first_signal: int, last_signal: int) -> bytes:
    """Return the line that makes a reaper watch ``pid``; short enough for one atomic write."""
    return b"+ %d %d %d\n" % (pid, first_signal, last_signal)


@dataclass(frozen=True, slots=True)
class OsAccount:
    """The account of a child that does not run as this process's account."""

    name: str
    uid: int
    gid: int


def popen_account(account: OsAccount | None) -> dict[str, Any]:
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program to run. ``env`` is the whole environment; without ``log`` the supervisor shows the output."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: Path = Path("/")
    account: OsAccount | None = None
    stop_signal: int = signal.SIGTERM
    last_signal: int = signal.SIGKILL
    log: Path | None = None
    health_url: str = ""
    prepare: Callable[[], None] | None = None
    """Runs before every start, to remove files that a crash left."""


class Child:
    """A program and its process, if it runs."""

    def __init__(self, program: Program, reaper: Reaper) -> None:
        self.program = program
        self.name = program.name
        self.started_at_seconds = 0.0
        self._reaper = reaper
        self._process: subprocess.Popen[str] | None = None
        self.output: IO[str] | None = None
        """The output of the process, unless it goes to a log file."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.poll() is None else None

    def start(self) -> None:
        """Start the process. Raises ``OSError`` if the program cannot be run."""
        program, reaper_fd = self.program, self._reaper.input_fd
        self._reaper.ensure_alive()
        if program.prepare is not None:
            program.prepare()

        def register() -> None:
            with suppress(OSError):  # watched again below
                os.write(reaper_fd, watch_line(os.getpid(), program.stop_signal, program.last_signal))

        log = subprocess.PIPE
        if program.log:
            log = open_private(str(program.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            self._process = subprocess.Popen(
                program.argv,
                env=dict(program.env),
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                preexec_fn=register,  # noqa: PLW1509 - one write; it takes no lock that a thread may hold
                **popen_account(program.account),
            )
        finally:
            if log != subprocess.PIPE:
                os.close(log)
        self.output = self._process.stdout
        self.started_at_seconds = time.monotonic()
        self._reaper.watch(self._process.pid, program.stop_signal, program.last_signal)

    def poll(self) -> int | None:
        """Return the exit code once the process has ended (negative: the signal), else None."""
        return self._process.poll() if self._process is not None else 0

    def send_signal(self, number: int) -> None:
        """Signal the process, not its group."""
        if self._process is not None:
            self._process.send_signal(number)

    def begin_stop(self) -> None:
        self.send_signal(self.program.stop_signal)

    def end_stop(self, deadline_seconds: float) -> None:
        """Wait until ``deadline_seconds`` (monotonic), then end the process and its group by force."""
        process = self._process
        if process is None:
            return
        for number in (self.program.last_signal, signal.SIGKILL):
            try:
                process.wait(max(0.0, deadline_seconds - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._end_group(process, number)
                deadline_seconds = time.monotonic() + 2
        process.wait()
        self.clean_up()

    def stop(self, grace_seconds: float) -> None:
        """Send the stop signal, wait at most ``grace_seconds``, then end the process by force."""
        self.begin_stop()
        self.end_stop(time.monotonic() + grace_seconds)

    def clean_up(self) -> None:
        """After the process has ended: end the rest of its group and stop watching it."""
        if self._process is not None:
            self._end_group(self._process, signal.SIGKILL)
            self._reaper.unwatch(self._process.pid)

    @staticmethod
    def _end_group(process: subprocess.Popen[str], number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def format_exit(code: int) -> str:
    """Return how a process ended: ``exit code 1``, ``killed by SIGKILL``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
