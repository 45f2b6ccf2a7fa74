"""Faults of the chaos run. Each function returns when its fault is over."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from services.demo.play import flush_broker, kill_with_locked_work
from services.fleet.up import RunningFleet

BUSY = (("worker-webhooks", "order_ingest"), ("worker-outbound", "inventory_push"))


@dataclass(frozen=True, slots=True)
class Outages:
    """Length of outages, in seconds."""

    broker: float = 60.0
    database: float = 10.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``keeps_workers``: no worker may exit because of it."""

    name: str
    inject: Callable[[RunningFleet, Outages], None]
    keeps_workers: bool = False


def _kill_children(fleet: RunningFleet, _: Outages) -> None:
    """Kill every child of the busy workers, three times."""
    for _round in range(3):
        for name, _topic in BUSY:
            pid = fleet.supervisor.pids()[name]
            for child in psutil.Process(pid).children() if pid else ():
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        time.sleep(1.5)


def _kill_workers(fleet: RunningFleet, _: Outages) -> None:
    kill_with_locked_work(fleet.supervisor, "worker-outbound", "inventory_push")
    fleet.supervisor.kill("worker-webhooks")


def _flush(fleet: RunningFleet, _: Outages) -> None:
    for _round in range(3):
        flush_broker(fleet.values["BROKER_URL"])
        time.sleep(1.0)


def _freeze_broker(fleet: RunningFleet, outages: Outages) -> None:
    fleet.supervisor.kill("valkey", signal.SIGSTOP)
    time.sleep(outages.broker)
    fleet.supervisor.kill("valkey", signal.SIGCONT)


def _stop_broker(fleet: RunningFleet, outages: Outages) -> None:
    """Kill the broker and start it again later; its messages are lost."""
    fleet.supervisor.kill("valkey", signal.SIGKILL)
    fleet.supervisor.hold("valkey", grace_seconds=0.0)
    time.sleep(outages.broker)
    fleet.supervisor.release("valkey")


def _freeze_database(fleet: RunningFleet, outages: Outages) -> None:
    pid = fleet.supervisor.pids()["postgres"]
    assert pid is not None
    postmaster = psutil.Process(pid)
    frozen = [postmaster, *postmaster.children()]
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    time.sleep(outages.database)
    for process in reversed(frozen):
        with suppress(psutil.NoSuchProcess):
            process.resume()


def _stop_database(fleet: RunningFleet, outages: Outages) -> None:
    """Stop the database at once, as in a power cut; it recovers from its log."""
    fleet.supervisor.hold("postgres", grace_seconds=0.0)
    time.sleep(outages.database)
    fleet.supervisor.release("postgres")


def _kill_ingress_and_beats(fleet: RunningFleet, _: Outages) -> None:
    for name in ("ingress", "beat-1", "beat-2"):
        fleet.supervisor.kill(name)


def _purge(fleet: RunningFleet, _: Outages) -> None:
    command = [sys.executable, "-m", "celery", "-A", "tasks", "purge", "-f"]
    env = {**os.environ, **fleet.values}
    subprocess.run(command, env=env, cwd=Path(fleet.home), check=True, capture_output=True)


FAULTS = (
    Fault("worker children killed", _kill_children),
    Fault("workers killed", _kill_workers),
    Fault("broker flushed", _flush, keeps_workers=True),
    Fault("celery purge", _purge, keeps_workers=True),
    Fault("broker frozen", _freeze_broker, keeps_workers=True),
    Fault("broker killed", _stop_broker, keeps_workers=True),
    Fault("database frozen", _freeze_database, keeps_workers=True),
    Fault("database stopped", _stop_database, keeps_workers=True),
    Fault("ingress and beats killed", _kill_ingress_and_beats, keeps_workers=True),
)
