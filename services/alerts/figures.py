"""A figure: what one rule compares, for one shop and subject."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.ledger.work import FLEET


class Figure(NamedTuple):
    """A value at this moment. ``detail`` fills the summary of the rule.

    ``subject`` tells figures of one rule and shop apart, such as a queue; empty if there is one.
    """

    value: float
    shop_id: int = FLEET
    subject: str = ""
    detail: Mapping[str, Any] = {}


Figures = Mapping[str, Sequence[Figure]]
"""By rule. An empty list: it was computed, and there is nothing to count. A missing rule: nobody knows."""

CollectFigures = Callable[[Connection, datetime], Figures]
"""A room's function. Figures within their threshold may be left out."""
