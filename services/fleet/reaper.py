"""The supervisor's side of the reaper: a process that ends the fleet's processes if the supervisor is killed.

``docs/decisions/0021-orphans.md`` says why it is a process of its own.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

_PROGRAM = Path(__file__).with_name("reaper_main.py")


class Reaper:
    """Starts the reaper process, and again if it ends. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, bytes] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def ensure_alive(self) -> int:
        """Start the reaper unless it runs; return the descriptor from which it reads."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_PROGRAM), str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={"PATH": os.defpath},
                    bufsize=0,
                    start_new_session=True,
                )
                for line in self._watched.values():
                    os.write(self._fd(), line)
            return self._fd()

    def watch(self, pid: int, first_signal: int, last_signal: int) -> None:
        """End the group that ``pid`` leads if this process ends before ``unwatch``."""
        line = watch_line(pid, first_signal, last_signal)
        self.ensure_alive()
        with self._lock:
            self._watched[pid] = line
            self._write(line)

    def unwatch(self, pid: int) -> None:
        with self._lock:
            if self._watched.pop(pid, None):
                self._write(b"- %d\n" % pid)

    def close(self) -> None:
        """End the reaper, which first ends what it still watches."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None  # noqa: S101 - started with a pipe above
            process.stdin.close()
            process.wait()

    def _fd(self) -> int:
        assert self._process is not None and self._process.stdin is not None  # noqa: S101
        return self._process.stdin.fileno()

    def _write(self, line: bytes) -> None:
        try:
            os.write(self._fd(), line)
        except BrokenPipeError:
            return  # the reaper was killed; ensure_alive starts another, which gets every line


def watch_line(pid: int, first_signal: int, last_signal: int) -> bytes:
    """Return the line that makes a reaper watch ``pid``; short enough for one atomic write."""
    return b"+ %d %d %d\n" % (pid, first_signal, last_signal)
