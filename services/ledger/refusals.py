"""Signed webhooks that the ingress refuses by name: since when, until the backfill has read what they held.

Kept for the providers that drop a subscription after some refusals in a row.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from services.ledger.tables import webhook_refusals
from services.providers.registry import find_provider

QUIET = timedelta(hours=1)
"""A shop with no refusal for so long is not refused any more."""

_columns = webhook_refusals.c


class Refusals(NamedTuple):
    """Deliveries of one shop that were refused with ``outcome``; ``detail`` is the first one's."""

    shop: str
    provider: str
    outcome: str
    first_at: datetime
    last_at: datetime
    detail: str


def record_refusals(tx: Connection, refusals: Iterable[tuple[int, Refusals]]) -> None:
    """Record ``refusals`` by shop id, until ``settle_refusals``, if their provider drops subscriptions."""
    rows = [
        {"shop_id": shop_id, "outcome": one.outcome, "first_at": one.first_at, "last_at": one.last_at}
        for shop_id, one in refusals
        if (provider := find_provider(one.provider)) and provider.refusals_until_dropped
    ]
    if rows:
        new = insert(webhook_refusals).values(rows)
        period = {
            "first_at": func.least(_columns.first_at, new.excluded.first_at),
            "last_at": func.greatest(_columns.last_at, new.excluded.last_at),
        }
        tx.execute(new.on_conflict_do_update(constraint=webhook_refusals.primary_key, set_=period))


def find_first_refusal(tx: Connection, shop_id: int) -> datetime | None:
    """Return since when webhooks of the shop are refused, None where they are not."""
    first_at: datetime | None = tx.scalar(
        select(func.min(_columns.first_at)).where(_columns.shop_id == shop_id)
    )
    return first_at


def settle_refusals(tx: Connection, shop_id: int, now: datetime) -> Sequence[tuple[str, datetime]]:
    """The provider's lists were read: delete outcomes that are over; return them, each with its first time.

    One whose last refusal is less than ``QUIET`` before ``now`` is not over.
    """
    over = (_columns.shop_id == shop_id) & (_columns.last_at < now - QUIET)
    rows = tx.execute(delete(webhook_refusals).where(over).returning(_columns.outcome, _columns.first_at))
    return [(row.outcome, row.first_at) for row in rows]
