"""The operators' words on the ``celery`` command, such as ``celery -A tasks backlog``.

Each is an entry point of ``celery.commands`` in ``pyproject.toml``; what they do is in ``services.ledger``.
"""

from tasks.commands_backlog import backlog
from tasks.commands_pause import pause, resume
from tasks.commands_requeue import discard, requeue, unlock

__all__ = ["backlog", "discard", "pause", "requeue", "resume", "unlock"]
