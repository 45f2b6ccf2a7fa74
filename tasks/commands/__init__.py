"""Subcommands that the project adds to ``celery``, such as ``celery -A tasks backlog``.

Each is an entry point of ``celery.commands`` in ``pyproject.toml``.
"""

from tasks.commands.backlog import backlog
from tasks.commands.backoff import backoff
from tasks.commands.pause import pause, resume
from tasks.commands.requeue import discard, requeue, unlock

__all__ = ["backlog", "backoff", "discard", "pause", "requeue", "resume", "unlock"]
