"""Helpers that wait for a condition or for the end of a call."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")


def wait_for(fact: Callable[[], object], *, seconds: float = 60.0) -> None:
    """Return once ``fact`` is true; fail if it does not become so."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.02)


def run_within(call: Callable[[], T], *, seconds: float) -> T:
    """Return what ``call`` returns, or raise what it raises; fail if it takes longer than ``seconds``."""
    ended: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            ended.append(call())
        except BaseException as fault:  # noqa: BLE001 - raised again below
            failed.append(fault)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"not finished within {seconds} s"
    if failed:
        raise failed[0]
    return ended[0]


def is_running(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
