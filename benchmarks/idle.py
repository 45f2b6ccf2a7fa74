"""Cost of an idle fleet: resident memory and processor time of its whole process tree.

PSS shares out pages that several processes map, so its sum is what the machine really gives; the sum of RSS
counts shared pages once per process and is what most tools show. Both come from ``smaps_rollup``.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import psutil

from benchmarks.processes import BenchmarkFailed
from benchmarks.results import Figures, Report

COLUMNS = {
    "cpu_percent": "% of one core",
    "rss_mib": "RSS MiB",
    "pss_mib": "PSS MiB",
    "processes": "processes",
}
SETTLE_SECONDS = 20

Spent = tuple[tuple[int, float], float, int]
"""(pid and start, which identify a process even if its pid is reused; processor seconds; pid)."""


def measure(fleet: Callable[[], AbstractContextManager[tuple[int, Path]]], *, seconds: float) -> Report:
    """Return the report of one idle fleet; ``fleet`` yields the supervisor's pid and its ``FLEET_HOME``."""
    name = "Shopfleet, embedded"
    report = Report(
        name="idle",
        title=f"Idle: the whole embedded fleet over {seconds:g} s",
        columns=COLUMNS,
        baseline=name,
        is_less_better=True,
        settings={"seconds": seconds, "settle_seconds": SETTLE_SECONDS},
    )
    try:
        with fleet() as (pid, home):
            time.sleep(SETTLE_SECONDS)
            report.add(name, watch_idle([pid, *find_server_pids(home)], seconds=seconds))
    except BenchmarkFailed as failed:
        report.fail(name, failed)
    return report


def watch_idle(roots: Sequence[int], *, seconds: float) -> Figures:
    """Return the sums over ``roots`` and all their descendants; memory is read at the end."""
    before = {key: spent for key, spent, _ in _read_tree(roots)}
    began = time.monotonic()
    time.sleep(seconds)
    after = list(_read_tree(roots))
    elapsed = time.monotonic() - began
    if not after:
        raise BenchmarkFailed("the fleet ended while it was watched")
    spent = sum(cpu - before.get(key, 0.0) for key, cpu, _ in after)
    memory = [_read_memory(pid) for _, _, pid in after]
    return {
        "cpu_percent": round(100 * spent / elapsed, 2),
        "rss_mib": round(sum(rss for rss, _ in memory) / 1024, 1),
        "pss_mib": round(sum(pss for _, pss in memory) / 1024, 1),
        "processes": len(after),
        "by_process": _by_name(after, before, elapsed),
    }


def find_server_pids(home: Path) -> list[int]:
    """Return the pids in the pid files under ``home``; the supervisor may not be their parent."""
    pids = []
    for path in [*home.rglob("postmaster.pid"), *home.rglob("*.pid")]:
        words = path.read_text(errors="replace").split()
        if words and words[0].isdecimal() and psutil.pid_exists(int(words[0])):
            pids.append(int(words[0]))
    return sorted(set(pids))


def _read_tree(roots: Iterable[int]) -> Iterable[Spent]:
    seen: dict[int, psutil.Process] = {}
    for root in roots:
        try:
            process = psutil.Process(root)
            seen.update({p.pid: p for p in (process, *process.children(recursive=True))})
        except psutil.NoSuchProcess:
            continue
    for pid, process in seen.items():
        try:
            times = process.cpu_times()
            yield (pid, process.create_time()), times.user + times.system, pid
        except psutil.NoSuchProcess:
            continue


def _read_memory(pid: int) -> tuple[int, int]:
    """Return (RSS, PSS) in KiB; zeros for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}
    return fields.get("Rss", 0), fields.get("Pss", 0)


def _by_name(
    after: Iterable[tuple[tuple[int, float], float, int]],
    before: dict[tuple[int, float], float],
    elapsed: float,
) -> list[dict[str, object]]:
    rows = []
    for key, cpu, pid in after:
        rss, pss = _read_memory(pid)
        try:
            name = _short_name(psutil.Process(pid).cmdline())
        except psutil.NoSuchProcess:
            continue
        rows.append(
            {
                "process": name,
                "cpu_percent": round(100 * (cpu - before.get(key, 0.0)) / elapsed, 2),
                "rss_mib": round(rss / 1024, 1),
                "pss_mib": round(pss / 1024, 1),
            }
        )
    return sorted(rows, key=lambda row: -float(str(row["pss_mib"])))


def _short_name(command: Sequence[str]) -> str:
    """Return a command line without folders: a report names no path."""
    words = [Path(word).name if "/" in word and "://" not in word else word for word in command]
    return " ".join(word for word in words[:12] if "://" not in word)[:100]


def main() -> int:
    """``python -m benchmarks.idle PID [--also PID] [--home FOLDER]``: print the sums as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.idle", description=main.__doc__)
    parser.add_argument("pid", type=int, help="the supervisor")
    parser.add_argument("--also", type=int, action="append", default=[], help="a server outside its tree")
    parser.add_argument("--home", type=Path, help="FLEET_HOME, to find the servers' pids")
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    roots = [args.pid, *args.also, *(find_server_pids(args.home) if args.home else [])]
    print(json.dumps(watch_idle(roots, seconds=args.seconds), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
