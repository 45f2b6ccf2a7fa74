"""The supervisor's end of the guard: a small process that cleans up should the supervisor be killed.

Chosen over Linux's parent-death signal because it works on macOS too, reaches whole process groups,
and does not care which thread started a child.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

_PROGRAM = Path(__file__).with_name("reaper_main.py")


class Guard:
    """Keeps the guard process alive and told. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, bytes] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The guard's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def ensure_alive(self) -> int:
        """Leave a guard running that knows all that is watched; return the descriptor that it reads."""
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
        """Have the group that ``pid`` leads ended should this process end without ``forget``."""
        line = watch_line(pid, first_signal, last_signal)
        self.ensure_alive()
        with self._lock:
            self._watched[pid] = line
            self._tell(line)

    def forget(self, pid: int) -> None:
        """Stop watching: the process has ended and was reaped."""
        with self._lock:
            if self._watched.pop(pid, None):
                self._tell(b"- %d\n" % pid)

    def close(self) -> None:
        """End the guard. What it still watches, it ends."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None  # noqa: S101 - started with a pipe above
            process.stdin.close()
            process.wait()

    def _fd(self) -> int:
        assert self._process is not None and self._process.stdin is not None  # noqa: S101
        return self._process.stdin.fileno()

    def _tell(self, line: bytes) -> None:
        try:
            os.write(self._fd(), line)
        except BrokenPipeError:
            return  # the guard was killed; ensure_alive starts another and tells it everything


def watch_line(pid: int, first_signal: int, last_signal: int) -> bytes:
    """Return the line that makes a guard watch ``pid``; short enough for one atomic write."""
    return b"+ %d %d %d\n" % (pid, first_signal, last_signal)
