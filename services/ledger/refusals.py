"""Signed webhooks that the ingress refuses by name: since when, until healing has read what they were about.

Kept for the providers that drop a subscription after some refusals in a row.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import instant_array, text_array
from services.providers.registry import find_provider

QUIET = timedelta(hours=1)
"""A shop with no refusal for so long is not refused any more."""

_RECORD = """
insert into webhook_refusals as r (shop_id, outcome, first_at, last_at)
select s.id, v.outcome, v.first_at, v.last_at
  from unnest(%(shop)s::text[], %(outcome)s::text[], %(first_at)s::timestamptz[], %(last_at)s::timestamptz[])
       as v(shop, outcome, first_at, last_at)
  join shops s on s.slug = v.shop
on conflict (shop_id, outcome) do update set
   first_at = least(r.first_at, excluded.first_at), last_at = greatest(r.last_at, excluded.last_at)
"""

_FIND_FIRST = "select min(first_at) from webhook_refusals where shop_id = %(shop_id)s"

_SETTLE = """
delete from webhook_refusals where shop_id = %(shop_id)s and last_at < %(before)s returning outcome, first_at
"""


class Refusals(NamedTuple):
    """Deliveries of one shop that were refused with ``outcome``; ``detail`` is the first one's."""

    shop: str
    provider: str
    outcome: str
    first_at: datetime
    last_at: datetime
    detail: str


def record_refusals(tx: Connection, refusals: Collection[Refusals]) -> None:
    """The shops of ``refusals`` are refused since their first one, until ``settle_refusals``."""
    kept = [one for one in refusals if drops_subscriptions(one.provider)]
    values: Mapping[str, Any] = {
        "shop": text_array([one.shop for one in kept]),
        "outcome": text_array([one.outcome for one in kept]),
        "first_at": instant_array(one.first_at for one in kept),
        "last_at": instant_array(one.last_at for one in kept),
    }
    if kept:
        tx.exec_driver_sql(_RECORD, values)


def drops_subscriptions(provider: str) -> bool:
    """Return whether ``provider`` deletes a subscription whose webhooks are refused."""
    found = find_provider(provider)
    return found is not None and found.refusals_until_dropped > 0


def find_first_refusal(tx: Connection, shop_id: int) -> datetime | None:
    """Return since when webhooks of the shop are refused, None where they are not."""
    return tx.exec_driver_sql(_FIND_FIRST, {"shop_id": shop_id}).scalar()


def settle_refusals(tx: Connection, shop_id: int, now: datetime) -> Sequence[tuple[str, datetime]]:
    """The provider's lists were read: delete outcomes that are over; return them, each with its first time.

    One whose last refusal is less than ``QUIET`` before ``now`` is not over.
    """
    rows = tx.exec_driver_sql(_SETTLE, {"shop_id": shop_id, "before": now - QUIET})
    return [(outcome, first_at) for outcome, first_at in rows]
