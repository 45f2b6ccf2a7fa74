"""Ends a fleet's processes when their supervisor has ended, for whatever reason.

``services.fleet.child`` runs it as a script; it imports nothing of the project, so that it stays small. It
reads lines ``+ PID FIRST LAST`` (watch, with two signals) and ``- PID`` from standard input. Only the
supervisor holds the other end of that pipe: the end of input means that the supervisor has ended.
"""

import os
import select
import signal
import sys
import time

GRACE_SECONDS = 5.0
POLL_SECONDS = 2.0


def read_until_orphaned(parent: int) -> dict[int, tuple[int, int]]:
    """Return what was still watched when the supervisor ended: pid -> (first signal, last signal).

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
    """Signal the group that ``pid`` leads (0: send nothing); return whether any process of it is left."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def end(watched: dict[int, tuple[int, int]]) -> None:
    """Send every leader its first signal, and after the grace period its group the last one."""
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
    end(read_until_orphaned(int(sys.argv[1])))
