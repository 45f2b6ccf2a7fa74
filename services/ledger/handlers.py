"""Handlers: a function for work on our own database, an object for calls to other systems."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from services.ledger.work import Call, HandlerResult, Outcome, WorkItem

TransactionalHandler = Callable[[Connection, Sequence[WorkItem], datetime], HandlerResult]
"""Does a batch of items inside the transaction that claimed them; see ``Mode.TRANSACTIONAL``."""


class ExternalHandler(Protocol):
    """Prepares calls to other systems; see ``Mode.EXTERNAL``."""

    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        """Return, per item, the call to make, or the outcome if no call is needed.

        Items of one batch call all get the same ``PreparedBatch``.
        """
        ...


Handler = TransactionalHandler | ExternalHandler
