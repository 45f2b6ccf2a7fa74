"""Waiting for facts instead of for time."""

import time
from collections.abc import Callable

import psutil


def wait_for(fact: Callable[[], object], *, seconds: float = 15.0) -> None:
    """Return once ``fact`` is true; fail if it does not become so."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Say whether a process is there and not just waiting to be reaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
