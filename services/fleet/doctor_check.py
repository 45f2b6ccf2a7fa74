"""The result of one check of ``fleet doctor``, and the run of many checks at once within a time."""

import os
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from services.core.log_redaction import redact_text
from services.core.settings import EXPORTED

Check = Callable[[], Iterable["DoctorCheck"]]
OnWait = Callable[[Collection[str]], None]
"""Gets the names of the checks that have not ended, about every second."""


UP = "start it with: fleet up"


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    """The result of one check: the observed state, and the remedy if it is not ``ok``.

    ``is_note``: it is no fault, but a person should know it; ``remedy`` then says what would change it.
    """

    check: str
    ok: bool
    seen: str
    remedy: str = ""
    is_note: bool = False


def describe_start(setting: str) -> str:
    """Return the remedy for a server that is not reachable, in a shell with or without `fleet env`."""
    return UP if EXPORTED in os.environ else f"start it, or check the host and port of {setting}"


def describe_fault(fault: Exception) -> str:
    """Return the first line of ``fault``, without secrets."""
    lines = str(getattr(fault, "orig", fault)).strip().splitlines()
    return redact_text(lines[0]) if lines else type(fault).__name__


def run_checks(
    checks: Mapping[str, Check], seconds: float, *, threads: int = 8, on_wait: OnWait | None = None
) -> list[DoctorCheck]:
    """Run ``checks`` in ``threads`` threads; return their findings in the order of ``checks``.

    A check that raises, or has not ended after ``seconds``, is a fault of its name. Its thread is left behind
    and does not keep the process alive.
    """
    waiting: queue.SimpleQueue[tuple[str, Check]] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[str, list[DoctorCheck]]] = queue.SimpleQueue()
    for item in checks.items():
        waiting.put(item)

    def work() -> None:
        while True:
            try:
                name, check = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                found = list(check())
            except Exception as fault:  # noqa: BLE001 - one check must not hide the findings of the others
                remedy = "correct the named cause; if there is none, this is a bug of Shopfleet"
                seen = f"the check ended with {type(fault).__name__}: {describe_fault(fault)}"
                found = [DoctorCheck(name, False, seen, remedy)]
            ended.put((name, found))

    for _ in range(min(threads, len(checks))):
        threading.Thread(target=work, daemon=True).start()
    found: dict[str, list[DoctorCheck]] = {}
    deadline = time.monotonic() + seconds
    while len(found) < len(checks) and (left := deadline - time.monotonic()) > 0:
        try:
            name, findings = ended.get(timeout=min(1.0, left))
            found[name] = findings
        except queue.Empty:
            if on_wait:
                on_wait([name for name in checks if name not in found])
    late = f"did not end within {seconds:g} s"
    remedy = "check the network between this machine and that server, then run: fleet doctor"
    return [one for name in checks for one in found.get(name, [DoctorCheck(name, False, late, remedy)])]
