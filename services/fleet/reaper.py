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
        # Both ends stay open here, so that a line written while the reaper is down reaches the next one.
        self._reading, self._writing = os.pipe()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def ensure_alive(self) -> int:
        """Start the reaper unless it runs; return the descriptor that leads to it."""
        with self._lock:
            if self.pid is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_PROGRAM), str(os.getpid())],
                    stdin=self._reading,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={"PATH": os.defpath},
                    start_new_session=True,
                )
                os.write(self._writing, b"".join(self._watched.values()))
            return self._writing

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
        """End the reaper, which first ends what it still watches."""
        with self._lock:
            os.close(self._writing)
            if self._process is not None:
                self._process.wait()
            os.close(self._reading)


def watch_line(pid: int, first_signal: int, last_signal: int) -> bytes:
    """Return the line that makes a reaper watch ``pid``; short enough for one atomic write."""
    return b"+ %d %d %d\n" % (pid, first_signal, last_signal)
