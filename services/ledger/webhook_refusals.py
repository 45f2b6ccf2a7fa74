"""Periods in which the ingress refused signed webhooks, stored until the backfill has read their data.

Only for providers that drop a subscription after several refusals in a row.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from services.ledger.tables import webhook_refusals
from services.providers.registry import find_provider

QUIET = timedelta(hours=1)
"""After this time without a refusal, the refusals of a shop are over."""

_columns = webhook_refusals.c


class WebhookRefusals(NamedTuple):
    """Deliveries of one shop that were refused with ``outcome``; ``detail`` describes the first one."""

    shop: str
    provider: str
    outcome: str
    first_at: datetime
    last_at: datetime
    detail: str


def record_refusals(tx: Connection, refusals: Iterable[tuple[int, WebhookRefusals]]) -> None:
    """Record ``refusals`` by shop id, for ``delete_old_refusals``, if their provider drops subscriptions."""
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
    """Return since when webhooks of the shop are refused, or None."""
    first_at: datetime | None = tx.scalar(
        select(func.min(_columns.first_at)).where(_columns.shop_id == shop_id)
    )
    return first_at


def delete_old_refusals(tx: Connection, shop_id: int, now: datetime) -> Sequence[tuple[str, datetime]]:
    """Delete the shop's refusals that are over; return each outcome with its first time.

    Call it when the provider's lists have been read. A refusal within ``QUIET`` before ``now`` is not over.
    """
    is_over = (_columns.shop_id == shop_id) & (_columns.last_at < now - QUIET)
    rows = tx.execute(delete(webhook_refusals).where(is_over).returning(_columns.outcome, _columns.first_at))
    return [(row.outcome, row.first_at) for row in rows]
