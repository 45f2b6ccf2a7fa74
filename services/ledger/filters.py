"""Filters for rows of the ledger. Values are checked, so that a typing error cannot match more rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import eq, ge, lt
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, true

from services.core.errors import InputInvalid, describe_unknown
from services.core.times import format_time
from services.ledger.tables import STATUSES, inbound_events, work_queue
from services.ledger.topics import COSTS, QUEUES, TOPICS


class FilterInvalid(InputInvalid):
    """A filter has a value that does not exist; the message has the field and the valid values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFilter:
    """Rows of ``work_queue``; an empty field matches all. ``until`` is exclusive, on ``created_at``."""

    queue: str = ""
    topic: str = ""
    shop_id: int | None = None
    statuses: tuple[str, ...] = ()
    error_code: str = ""
    key: str = ""
    origin: str = ""
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_scope(self.queue, self.topic)
        _check_times(self.since, self.until)
        for status in self.statuses:
            _check("status", status, STATUSES)

    def where(self) -> ColumnElement[bool]:
        """Return the SQL condition."""
        column = work_queue.c
        return _all_of(
            (column.queue, eq, self.queue),
            (column.topic, eq, self.topic),
            (column.shop_id, eq, self.shop_id),
            (column.status, _is_in, self.statuses),
            (column.error_code, eq, self.error_code),
            (column.key, eq, self.key),
            (column.origin, eq, self.origin),
            (column.created_at, ge, self.since),
            (column.created_at, lt, self.until),
            (column.id, _is_in, self.ids),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Rows of ``inbound_events``; an empty field matches all. ``until`` is exclusive, on ``received_at``.

    ``topic`` is the provider's topic, such as ``orders/create``.
    """

    ids: tuple[int, ...] = ()
    shop_id: int | None = None
    provider: str = ""
    topic: str = ""
    delivery_key: str = ""
    origin: str = ""
    request_id: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        _check_times(self.since, self.until)

    @property
    def is_open(self) -> bool:
        """Whether the filter matches every event."""
        return not any(getattr(self, field.name) for field in fields(self))

    def where(self) -> ColumnElement[bool]:
        """Return the SQL condition."""
        column = inbound_events.c
        return _all_of(
            (column.id, _is_in, self.ids),
            (column.shop_id, eq, self.shop_id),
            (column.provider, eq, self.provider),
            (column.topic, eq, self.topic),
            (column.delivery_key, eq, self.delivery_key),
            (column.origin, eq, self.origin),
            (column.request_id, eq, self.request_id),
            (column.received_at, ge, self.since),
            (column.received_at, lt, self.until),
        )


def _all_of(*conditions: tuple[Column[Any], Callable[[Any, Any], Any], object]) -> ColumnElement[bool]:
    """Join those ``conditions`` (column, operator, value) that have a value."""
    given = [compare(column, value) for column, compare, value in conditions if value not in (None, "", ())]
    return and_(true(), *given)


def _is_in(column: Column[Any], values: Sequence[object]) -> ColumnElement[bool]:
    return column.in_(values)


def check_scope(queue: str, topic: str, cost: str = "") -> None:
    """Raise ``FilterInvalid`` unless each exists or is empty, and ``queue`` is that of ``topic``."""
    if cost:
        _check("cost", cost, COSTS)
    if queue:
        _check("queue", queue, QUEUES)
    if topic:
        _check("topic", topic, tuple(TOPICS))
    if queue and topic and TOPICS[topic].queue != queue:
        raise FilterInvalid(f"topic={topic!r} runs on queue {TOPICS[topic].queue!r}, not on {queue!r}")


def _check_times(since: datetime | None, until: datetime | None) -> None:
    if since and until and since >= until:
        raise FilterInvalid(f"until={format_time(until)} should be after since={format_time(since)}")


def _check(field: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise FilterInvalid(f"{field}={describe_unknown(value, allowed)}")
