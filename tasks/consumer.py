"""The worker's consumer without delayed delivery.

With quorum queues, Celery's own declares 28 more queues for messages with an ETA, and warns for each of our
queues that its exchange cannot use them. We send no such message: retries wait in the ledger.
https://docs.celeryq.dev/en/stable/userguide/configuration.html#std-setting-worker_consumer
"""

import warnings
from typing import ClassVar

from celery.exceptions import CPendingDeprecationWarning
from celery.worker import consumer, state

# Advice about a setting that we set, at each lost connection.
warnings.filterwarnings("ignore", r"\s*In Celery 5\.1 we introduced", CPendingDeprecationWarning)


class Consumer(consumer.Consumer):
    """Celery's consumer without the step ``DelayedDelivery``; a signal during its start stops it."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc, valid-type]
        """The steps of the consumer."""

        default_steps: ClassVar[list[str]] = [
            step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        ]

    def on_ready(self) -> None:
        """Stop here if a signal came during the start: Celery uses the pool next, which is gone then."""
        state.maybe_shutdown()
        super().on_ready()
