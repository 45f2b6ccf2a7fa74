"""The second net under the guard: processes of a fleet whose supervisor and guard were both killed."""

import contextlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.fleet.embedded.state import write_private


def record_processes(path: Path, pids: Mapping[str, int | None]) -> None:
    """Leave in ``path`` which processes run, with their start times: a number alone may be reused."""
    import psutil

    rows: dict[str, list[float]] = {}
    for name, pid in pids.items():
        with contextlib.suppress(psutil.Error):
            if pid is not None:
                rows[name] = [pid, psutil.Process(pid).create_time()]
    write_private(path, json.dumps(rows, indent=1) + "\n")


def find_recorded(path: Path) -> dict[str, int]:
    """Return the recorded processes that still run, name to process id."""
    import psutil

    try:
        rows: Any = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    found: dict[str, int] = {}
    for name, (pid, created) in rows.items():
        with contextlib.suppress(psutil.Error):
            if abs(psutil.Process(int(pid)).create_time() - created) < 0.05:
                found[str(name)] = int(pid)
    return found


def end_recorded(path: Path) -> list[str]:
    """End the groups of recorded processes that still run; return their names. Hold the home's lock."""
    import psutil

    found = find_recorded(path)
    left: list[psutil.Process] = []
    for pid in found.values():
        with contextlib.suppress(psutil.Error, OSError):
            left.append(psutil.Process(pid))
            os.kill(pid, signal.SIGTERM)
    psutil.wait_procs(left, timeout=5)
    for pid in found.values():
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    path.unlink(missing_ok=True)
    return list(found)
