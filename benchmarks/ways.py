"""A way: one solution to compare, which the harness can start, or a reason why it cannot."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from benchmarks.processes import NODE_FOLDER, PEERS_PYTHON, ROOT, Argv
from benchmarks.servers import Servers

T = TypeVar("T")

Effect = Literal["orders", "stock", "pushes"]
"""What peers write for an order: it and its lines; also a movement of stock for each line; also the stock
level's new figure, and a message that it must be pushed. The product always does what its data ask for."""
NOT_INSTALLED = "the peers are not installed: python -m benchmarks.setup_peers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One run: its servers, its database and a folder for logs."""

    servers: Servers
    database_url: str
    logs: Path
    effect: Effect = "orders"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressWay:
    """A way to accept webhooks. ``serve`` yields the URL to post to while it is up."""

    name: str
    serve: Callable[[Bench], AbstractContextManager[str]]
    why_not: Callable[[], str | None]
    has_rows: bool = True
    """Whether each accepted request is a row of ``inbound_events``, which is then checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerWay:
    """A way to process work. ``fill`` queues rows 1..N; ``workers`` are the commands to run."""

    name: str
    fill: Callable[[Bench, int], None]
    workers: Callable[[Bench, int], Sequence[Argv]]
    why_not: Callable[[], str | None]
    is_fast: bool = False
    """Fast ways process all prepared rows, the others fewer, in about the same time."""
    env: Callable[[Bench], Mapping[str, str]] = field(default=lambda bench: peer_env(bench))
    cwd: Path | None = None
    can_push: bool = False
    """Whether it supports follow-up work (the effect ``pushes``)."""


def in_turn(ways: Sequence[T], number: int, rounds: int) -> Sequence[T]:
    """Return ``ways`` as round ``number`` of ``rounds`` has them: each round another begins.

    Otherwise the same way would follow the busiest one in every round.
    """
    first = number * len(ways) // rounds
    return [*ways[first:], *ways[:first]]


def peer_env(bench: Bench) -> dict[str, str]:
    """Return what the peers read from the environment."""
    return {
        "BENCH_DATABASE_URL": bench.database_url,
        "BENCH_BROKER_URL": bench.servers.broker_url,
        "BENCH_EFFECT": bench.effect,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }


def why_no_python_peers() -> str | None:
    """Return what is missing for the Python peers, or None."""
    return None if PEERS_PYTHON.exists() else NOT_INSTALLED


def why_no_node_peers() -> str | None:
    """Return what is missing for the Node peers, or None."""
    if not shutil.which("node"):
        return "Node.js is not installed"
    return (
        None if (NODE_FOLDER / "node_modules").is_dir() else "the peers are not installed: make bench-setup"
    )
