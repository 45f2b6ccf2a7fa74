"""A figure: what one rule compares, for one shop and subject."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.db import is_connection_fault
from services.core.sentry import capture_bug
from services.ledger.work import FLEET

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


def collect_each(tx: Connection, collectors: Mapping[str, CollectFigures], now: datetime) -> Figures:
    """Return the figures of all ``collectors``, which are named by their rules.

    One that fails is logged and reported, and its rules are left out. Raises only for a lost connection.
    """
    figures: dict[str, Sequence[Figure]] = {}
    for name, collect in collectors.items():
        try:
            with tx.begin_nested():
                figures |= collect(tx, now)
        except Exception as fault:
            if is_connection_fault(fault):
                raise
            error = f"{type(fault).__name__}: {fault}"
            _log.error("figures_failed", extra={"fields": {"rules": name, "error": error}})
            capture_bug(fault, topic=f"figures:{name}")
    return figures
