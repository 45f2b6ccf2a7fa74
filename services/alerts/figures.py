"""A figure: what one rule compares, for one shop and subject."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from math import inf
from time import monotonic
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.db import is_connection_fault
from services.core.sentry import capture_bug
from services.ledger.work import FLEET

CLOCKS_APART = timedelta(minutes=2)
"""What has a later time than this from now is of a clock that was wrong: it counts for no figure, and a
message of such a time holds no other back."""
EVALUATION_SECONDS = 20.0
"""Figures that are not collected by then are left out: an evaluation holds the lock of the rules."""

_READ_LIMIT = "select (extract(epoch from current_setting('statement_timeout')::interval) * 1000)::int"
_SET_LIMIT = "select set_config('statement_timeout', %(ms)s::text, true)"


class _Limit(NamedTuple):
    """When the evaluation ends, and the limit of a statement before (0: none)."""

    ends_at: float = inf
    statement_ms: int = 0

    @property
    def seconds_left(self) -> float:
        return self.ends_at - monotonic()


_NO_LIMIT = _Limit()
_limit: ContextVar[_Limit] = ContextVar("limit", default=_NO_LIMIT)
_log = logging.getLogger(__name__)


class Figure(NamedTuple):
    """A value at this moment. ``detail`` fills the summary of the rule.

    ``subject`` tells figures of one rule and shop apart, such as a queue; empty if there is one.
    """

    value: float
    shop_id: int = FLEET
    subject: str = ""
    detail: Mapping[str, Any] = {}


_NOT_DETAIL = ("value", "shop_id", "subject")


def make_figure(row: Row[Any]) -> Figure:
    """Return the figure of a row: ``value``, ``shop_id`` (null: the fleet), ``subject``, and its detail."""
    detail = {name: value for name, value in row._asdict().items() if name not in _NOT_DETAIL}
    return Figure(float(row.value), row.shop_id or FLEET, row.subject, detail)


Figures = Mapping[str, Sequence[Figure]]
"""By rule. An empty list: it was computed, and there is nothing to count. A missing rule: nobody knows."""

CollectFigures = Callable[[Connection, datetime], Figures]
"""A room's function. Figures within their threshold may be left out."""


@contextmanager
def limit_time(tx: Connection) -> Iterator[None]:
    """Bound what ``collect_each`` takes in the block, with all calls inside it, by ``EVALUATION_SECONDS``.

    The limit of ``tx`` for a statement is the same after the block.
    """
    limit = _Limit(monotonic() + EVALUATION_SECONDS, tx.exec_driver_sql(_READ_LIMIT).scalar_one())
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)
    tx.exec_driver_sql(_SET_LIMIT, {"ms": limit.statement_ms})


def collect_each(tx: Connection, collectors: Mapping[str, CollectFigures], now: datetime) -> Figures:
    """Return the figures of all ``collectors``, which are named by their rules.

    One that fails is logged and reported, and its rules are left out; so are those that are left after the
    time of ``limit_time``. Raises only for a lost connection.
    """
    figures: dict[str, Sequence[Figure]] = {}
    limit, names = _limit.get(), list(collectors)
    for number, (name, collect) in enumerate(collectors.items()):
        left_ms = limit.seconds_left * 1000
        if left_ms < 1:
            _log.error("figures_not_collected", extra={"fields": {"rules": ", ".join(names[number:])}})
            break
        try:
            with tx.begin_nested():
                if left_ms < (limit.statement_ms or inf):
                    tx.exec_driver_sql(_SET_LIMIT, {"ms": int(left_ms)})
                figures |= collect(tx, now)
        except Exception as fault:
            if is_connection_fault(fault):
                raise
            error = f"{type(fault).__name__}: {fault}"
            _log.error("figures_failed", extra={"fields": {"rules": name, "error": error}})
            capture_bug(fault, topic=f"figures:{name}")
    return figures
