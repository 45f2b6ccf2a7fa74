"""Rounds become medians, medians become a table and a JSON file. No host's name or path is in either."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.processes import NODE_FOLDER, PEERS_PYTHON, BenchmarkFailed

Figures = Mapping[str, Any]


@dataclass(slots=True)
class Report:
    """Result of one benchmark: the rounds of each way, and why some ways did not run."""

    name: str
    title: str
    columns: Mapping[str, str]
    """Figure -> heading; the first one is compared with ``baseline``'s."""
    baseline: str
    settings: Mapping[str, Any]
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    is_less_better: bool = False

    def add(self, way: str, figures: Figures) -> None:
        """Add the figures of one round of one way."""
        self.rounds.setdefault(way, []).append(figures)

    def fail(self, way: str, failed: BenchmarkFailed) -> None:
        """Record why a way could not be measured; print the end of the log to stderr only."""
        self.not_run[way] = str(failed)
        print(f"{way}: {failed}\n{failed.detail}", file=sys.stderr)

    def medians(self) -> dict[str, dict[str, Any]]:
        """Return each way's median of every column, and its ratio to the baseline."""
        first = next(iter(self.columns))
        table: dict[str, dict[str, Any]] = {
            way: {key: round(median(r[key] for r in rounds), 3) for key in self.columns}
            for way, rounds in self.rounds.items()
        }
        base = table.get(self.baseline, {}).get(first)
        for figures in table.values():
            figures["ratio"] = round(figures[first] / base, 2) if base else None
        return table


def print_table(report: Report) -> None:
    """Print the medians, best first, and what did not run."""
    table = Table(title=report.title, title_justify="left")
    table.add_column("way")
    for heading in (*report.columns.values(), f"x {report.baseline}"):
        table.add_column(heading, justify="right")
    first = next(iter(report.columns))
    rows = sorted(report.medians().items(), key=lambda row: row[1][first], reverse=not report.is_less_better)
    for way, figures in rows:
        ratio = figures["ratio"]
        table.add_row(
            way,
            *(f"{figures[key]:,.10g}" for key in report.columns),
            "-" if ratio is None else f"{ratio:g}",
        )
    for way, reason in report.not_run.items():
        table.add_row(way, f"not run: {reason}", *[""] * len(report.columns))
    Console(width=120).print(table)


def write_json(report: Report, folder: Path, versions: Mapping[str, str]) -> Path:
    """Write ``<folder>/<name>.json`` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.name}.json"
    content = {
        "benchmark": report.name,
        "title": report.title,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine_facts(versions),
        "settings": dict(report.settings),
        "baseline": report.baseline,
        "medians": report.medians(),
        "rounds": report.rounds,
        "not_run": report.not_run,
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path


def machine_facts(versions: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of the machine."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "architecture": platform.machine(),
        "system": platform.system(),
        "versions": {
            "python": platform.python_version(),
            **_own_versions(("celery", "kombu", "psycopg", "sqlalchemy", "granian", "flask", "redis")),
            **versions,
        },
        "peers": {**_python_peer_versions(), **_node_peer_versions()},
    }


def _own_versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _python_peer_versions() -> dict[str, str]:
    names = (
        "celery",
        "dramatiq",
        "flask",
        "gunicorn",
        "huey",
        "procrastinate",
        "psycopg",
        "rq",
        "sqlalchemy",
    )
    program = f"from importlib.metadata import version\nfor n in {names!r}: print(n, version(n))"
    return _pairs([str(PEERS_PYTHON), "-c", program])


def _node_peer_versions() -> dict[str, str]:
    lock = NODE_FOLDER / "package.json"
    wanted = json.loads(lock.read_text())["dependencies"] if lock.exists() else {}
    return {**wanted, **_pairs(["node", "-p", "'node ' + process.versions.node"])}


def _pairs(argv: Sequence[str]) -> dict[str, str]:
    try:
        ran = subprocess.run(argv, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(line.split(" ", 1) for line in ran.stdout.splitlines() if " " in line)
