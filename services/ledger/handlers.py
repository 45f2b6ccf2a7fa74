"""What an effect looks like to the runner: a function for our own database, an object for the world."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from services.ledger.work import Call, HandlerResult, Outcome, WorkItem

TransactionalHandler = Callable[[Connection, Sequence[WorkItem], datetime], HandlerResult]
"""Does a set of items inside the transaction that claimed them; see ``Runs.OWN``."""


class ExternalHandler(Protocol):
    """Acts on the world; see ``Runs.OUTSIDE``."""

    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        """Return, per item, the call to make, or the outcome where no call is needed.

        Items that go out in one call all have the same ``PreparedBatch`` in their places.
        """
        ...


Handler = TransactionalHandler | ExternalHandler
