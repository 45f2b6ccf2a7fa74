"""``celery -A tasks control log_level debug -d NODE``: another log level for a worker until it restarts."""

import mmap
from typing import Any

from celery.signals import task_prerun
from celery.worker.control import control_command

from services.core.log import set_level
from services.core.settings import LOG_LEVELS

_chosen = mmap.mmap(-1, 1)
"""Shared with the children, which are forks: 0, or one more than the position in ``LOG_LEVELS``."""
_applied = 0


@control_command(args=[("level", str)], signature=f"<{'|'.join(LOG_LEVELS)}>")
def log_level(state: Any, level: str) -> dict[str, str]:
    """Set the log level of the worker until it restarts."""
    del state
    if level not in LOG_LEVELS:
        return {"error": f"level={level!r} should be one of {', '.join(LOG_LEVELS)}"}
    _chosen[0] = LOG_LEVELS.index(level) + 1
    apply_level()
    return {"ok": f"log level is {level} until the worker restarts"}


@task_prerun.connect
def apply_level(**_: Any) -> None:
    """Use the chosen level in this process, from its next task on."""
    global _applied  # noqa: PLW0603 - one log per process
    chosen = _chosen[0]
    if chosen != _applied:
        set_level(LOG_LEVELS[chosen - 1])
        _applied = chosen
