"""Starts the product for a benchmark: its real ingress, workers and messages."""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from benchmarks.ingress_ways import NAIVE, PROCESSES, serve_naive
from benchmarks.latency import FleetWay
from benchmarks.processes import (
    PEERS_PYTHON,
    Argv,
    BenchmarkFailed,
    await_answer,
    await_true,
    find_free_port,
    run_once,
    running,
    stop,
)
from benchmarks.rows import SECRET_KEY
from benchmarks.ways import Bench, IngressWay, WorkerWay, peer_env, why_no_python_peers

NAME = "Shopfleet"
BIN = Path(sys.executable).parent
MESSAGE_IDS = 500
OUTSIDE = ("DATABASE_URL", "BROKER_URL", "MIGRATE_DATABASE_URL")
"""Settings that would make an embedded fleet use other servers."""


def env(bench: Bench) -> dict[str, str]:
    """Return the product's settings for this run."""
    return {
        "DATABASE_URL": bench.database_url,
        "BROKER_URL": bench.servers.broker_url,
        "SECRET_KEY": SECRET_KEY,
        "FLEET_HOME": str(bench.logs / "fleet-home"),
        "LOG_LEVEL": "warning",
        "LOG_FORMAT": "json",
        "INGRESS_WORKERS": str(PROCESSES),
    }


def why_no_ingress() -> str | None:
    """Return what is missing, or None."""
    return None if _has("services.ingress.serve") else "services.ingress.serve does not exist"


def why_no_workers() -> str | None:
    """Return what is missing, or None."""
    return None if _has("tasks.celery") or _has("tasks.runner") else "tasks has no application"


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def serve(
    bench: Bench, more: Mapping[str, str] = MappingProxyType({}), module: str = "services.ingress.serve"
) -> Iterator[str]:
    """Run the product's ingress, with ``more`` settings, and yield the URL of shop ``bench``."""
    port, log = find_free_port(), bench.logs / "ours-ingress.log"
    settings = {**env(bench), "INGRESS_PORT": str(port), **more}
    with running([sys.executable, "-m", module], log=log, env=settings) as process:
        await_answer(f"http://127.0.0.1:{port}/livez", what="ingress starts", log=log, process=process)
        yield f"http://127.0.0.1:{port}/webhooks/shopify/bench"


def fill(bench: Bench, count: int) -> None:
    """Send the messages for rows 1..N as dispatch does under load: one message for a batch."""
    from services.core.broker import Sender

    sender = Sender(bench.servers.broker_url)
    for first in range(1, count + 1, MESSAGE_IDS):
        sender.send("webhooks", "order_ingest", [list(range(first, min(first + MESSAGE_IDS, count + 1)))])
    sender.close()


def worker_argv(bench: Bench, count: int = 0) -> Sequence[Argv]:
    """Return the command of one worker of two processes, as ``fleet up`` starts it."""
    flags = ["-Q", "webhooks", "-c", "2", "-l", "WARNING", "--without-gossip", "--without-mingle"]
    return [[BIN / "celery", "-A", "tasks", "worker", *flags]]


@contextmanager
def serve_fleet(bench: Bench) -> Iterator[str]:
    """Run ingress and a worker and yield the URL to post to."""
    log = bench.logs / "ours-worker.log"
    with running(worker_argv(bench)[0], log=log, env=env(bench)), serve(bench) as address:
        yield address


@contextmanager
def serve_naive_fleet(bench: Bench) -> Iterator[str]:
    """Run the naive ingress with plain Celery behind it."""
    log, module = bench.logs / "naive-worker.log", "benchmarks.peers_workers.plain_celery"
    argv: Argv = [PEERS_PYTHON.parent / "celery", "-A", module, "worker", "-c", "2", "-l", "WARNING"]
    with running(argv, log=log, env=peer_env(bench)), serve_naive(bench) as address:
        yield address


@contextmanager
def idle_fleet() -> Iterator[tuple[int, Path]]:
    """Run ``fleet up`` in a new home and yield its pid and its home."""
    if not _has("services.cli.main"):
        raise BenchmarkFailed("services.cli.main does not exist")
    with tempfile.TemporaryDirectory(prefix="bench-idle-", ignore_cleanup_errors=True) as folder:
        home, log = Path(folder) / "fleet", Path(folder) / "fleet.log"
        clean = {name: "" for name in OUTSIDE if name in os.environ}
        with running(
            [BIN / "fleet", "up", "--auto-ports"], log=log, env={**clean, "FLEET_HOME": str(home)}
        ) as process:
            await_true(lambda: (home / "env").exists(), what="fleet up", seconds=90, log=log, process=process)
            yield process.pid, home
            stop(process, grace_seconds=30)


INGRESS = IngressWay(name=NAME, serve=serve, why_not=why_no_ingress)
WORKERS = WorkerWay(
    name=NAME, fill=fill, workers=worker_argv, why_not=why_no_workers, is_fast=True, can_push=True, env=env
)


def _plain_env(bench: Bench) -> dict[str, str]:
    return {**env(bench), **peer_env(bench)}


def _fill_plain(bench: Bench, count: int) -> None:
    fill_all = f"from benchmarks.plain_ours import fill; fill({count})"
    run_once([sys.executable, "-c", fill_all], log=bench.logs / "plain-ours.log", env=_plain_env(bench))


SAME_EFFECT = WorkerWay(
    name="plain Celery, the product's own effect",
    fill=_fill_plain,
    workers=lambda bench, count: [
        [BIN / "celery", "-A", "benchmarks.plain_ours", "worker", "-c", "2", "-l", "WARNING"]
    ],
    why_not=why_no_workers,
    can_push=True,
    env=_plain_env,
)


def why_no_fleet() -> str | None:
    """Return what is missing for both halves, or None."""
    return why_no_ingress() or why_no_workers()


def fleets(only: str) -> list[FleetWay]:
    """Return the ways that latency compares, the naive one first."""
    ways = [
        FleetWay(name=f"{NAIVE} + plain Celery", serve=serve_naive_fleet, why_not=why_no_python_peers),
        FleetWay(name=NAME, serve=serve_fleet, why_not=why_no_fleet),
    ]
    wanted = [part.strip().lower() for part in only.split(",") if part.strip()]
    return [way for way in ways if not wanted or any(part in way.name.lower() for part in wanted)]
