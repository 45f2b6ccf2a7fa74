"""Ends a fleet's processes when their supervisor is gone, however it went.

Run as a script by ``services.fleet.reaper`` and imports nothing of the project, so that it stays
small. It reads ``+ PID FIRST LAST`` and ``- PID`` lines from its standard input, whose only other
end the supervisor holds: the end of input means the supervisor has ended. A clean stop has taken
every line back by then, and there is nothing to do. Killing the guard itself is the one gap; the
supervisor starts it again within a second.
"""

import os
import select
import signal
import sys
import time

GRACE_SECONDS = 5.0
LOOK_EVERY_SECONDS = 2.0


def read_until_orphaned(parent: int) -> dict[int, tuple[int, int]]:
    """Return what was still watched when the supervisor ended: pid -> (first signal, last signal).

    The parent's id is looked at as well: a process forked from the supervisor may hold the pipe open.
    """
    watched: dict[int, tuple[int, int]] = {}
    rest = b""
    while True:
        ready, _, _ = select.select([0], [], [], LOOK_EVERY_SECONDS)
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


def has_group(pid: int) -> bool:
    """Say whether any process of the group that ``pid`` leads is left."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def send_group(pid: int, number: int) -> None:
    """Signal a whole group; one that is gone is well gone."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def end(watched: dict[int, tuple[int, int]]) -> None:
    """Ask every leader to end, then after the grace end its group."""
    for pid, (first, _) in watched.items():
        try:
            os.kill(pid, first)
        except ProcessLookupError:
            send_group(pid, signal.SIGKILL)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(map(has_group, watched)):
        time.sleep(0.05)
    for pid, (_, last) in watched.items():
        send_group(pid, last)
    time.sleep(0.2)
    for pid in watched:
        if has_group(pid):
            time.sleep(1)
            send_group(pid, signal.SIGKILL)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    end(read_until_orphaned(int(sys.argv[1])))
