"""Ends a fleet's processes when their supervisor has ended, even if it was killed.

``services.fleet.child`` runs it as a script; it imports nothing of the project, to need little memory. It
reads lines ``+ PID FIRST LAST`` (watch, with two signals) and ``- PID`` from standard input. Only the
supervisor has the other end of that pipe, so the end of input means that the supervisor has ended.
"""

import os
import select
import signal
import sys
import time

GRACE_SECONDS = 5.0
POLL_SECONDS = 2.0


def read_until_orphaned(parent: int) -> dict[int, tuple[int, int]]:
    """Return the pids that were watched when the supervisor ended, each with its (first, last) signal.

    The parent's id is checked too: a process forked from the supervisor may hold the pipe open.
    """
    watched: dict[int, tuple[int, int]] = {}
    rest = b""
    while True:
        ready, _, _ = select.select([0], [], [], POLL_SECONDS)
        if not ready:
            if os.getppid() != parent:
                return watched
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            return watched
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            sign, *numbers = line.split()
            pid, *signals = map(int, numbers)
            if sign == b"+":
                watched[pid] = (signals[0], signals[1])
            else:
                watched.pop(pid, None)


def send_group(pid: int, number: int) -> bool:
    """Signal the group that ``pid`` leads (0: send nothing); return whether any process is left."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def end_groups(watched: dict[int, tuple[int, int]]) -> None:
    """Send each leader its first signal and, after the grace period, its group the last signal."""
    for pid, (first, _) in watched.items():
        try:
            os.kill(pid, first)
        except ProcessLookupError:
            send_group(pid, signal.SIGKILL)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(send_group(pid, 0) for pid in watched):
        time.sleep(0.05)
    for pid, (_, last) in watched.items():
        send_group(pid, last)
    time.sleep(0.2)
    for pid in watched:
        if send_group(pid, 0):
            time.sleep(1)
            send_group(pid, signal.SIGKILL)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    end_groups(read_until_orphaned(int(sys.argv[1])))
