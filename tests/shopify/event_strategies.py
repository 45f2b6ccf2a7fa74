"""Strategies for drawn events: a delivery with few ids, minutes and texts."""

from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any, NamedTuple

from hypothesis import strategies as st

from services.ledger.work import WorkItem
from tests.shopify.sample_payloads import ITEM, LOCATION, NOON, ORDER, Ingest, item

PRODUCTS = (2**53 + 101, 2**53 + 201)
CUSTOMER = 2**53 + 301


class Event(NamedTuple):
    """One delivery: its effect, topic, body and minute of sending."""

    effect: Ingest
    topic: str
    body: dict[str, Any]
    minute: int

    def deliver(self) -> WorkItem:
        """Return a new work item of the event."""
        made = item("history", self.body, event_topic=self.topic)
        return made._replace(occurred_at=NOON.astimezone(UTC) + timedelta(minutes=self.minute))


minutes = st.integers(0, 2)
orders_of_shop = st.sampled_from([ORDER, ORDER, ORDER, ORDER + 1000])
customers_of_shop = st.sampled_from([CUSTOMER, CUSTOMER, CUSTOMER + 1])
items_of_shop = st.sampled_from([ITEM, ITEM, ITEM, ITEM + 1])
locations_of_shop = st.sampled_from([LOCATION, LOCATION, LOCATION + 1])
skus = st.sampled_from(["MUG", "CUP", ""])
texts = st.sampled_from(["", "a", "B", "é"])
cents = st.sampled_from(["0.00", "5.00", "12.50", "100"])


def draws(make: Callable[..., Event]) -> Callable[..., st.SearchStrategy[Event]]:
    """Return ``make`` as a strategy; its first argument draws."""
    return st.composite(make)
