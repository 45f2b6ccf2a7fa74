"""The addresses that send webhooks with a wrong signature, by hour, shop and provider.

Memory and rows are bounded: a sender with many addresses cannot fill them.
"""

import threading
from collections import Counter
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.locks import lock_objects
from services.core.networks import find_network
from services.core.pg_arrays import arrays
from services.ledger.work import FLEET

MOST_SENDERS = 10
"""Addresses that are stored for each hour, shop and provider: those with the most requests."""
MOST_IN_MEMORY = 20
"""Addresses of each of them in memory. A further one replaces the one with the fewest requests."""
MOST_ENDPOINTS = 500
"""Shops and providers in memory between two flushes; addresses of further ones are not recorded."""
LONGEST_ADDRESS = 45
"""Characters of an IPv6 address."""

_ADD = """
insert into webhook_senders as s (hour, shop, provider, address, count)
select v.* from unnest(%(hour)s::timestamptz[], %(shop)s::text[], %(provider)s::text[], %(address)s::text[],
                       %(count)s::bigint[]) as v(hour, shop, provider, address, count)
 order by 1, 2, 3, 4
on conflict (hour, shop, provider, address) do update set count = s.count + excluded.count
"""
_KEEP_MOST = """
delete from webhook_senders w using (
  select hour, shop, provider, address,
         row_number() over (partition by hour, shop, provider order by count desc, address) as place
    from webhook_senders
   where (hour, shop, provider) in (
     select * from unnest(%(hour)s::timestamptz[], %(shop)s::text[], %(provider)s::text[]))) ranked
 where ranked.place > %(most)s
   and (w.hour, w.shop, w.provider, w.address)
       = (ranked.hour, ranked.shop, ranked.provider, ranked.address)
"""


class SentTo(NamedTuple):
    """Where and in which hour a request was sent."""

    hour: datetime
    shop: str
    provider: str


class WebhookSenders:
    """The addresses since the last flush. Threads may share it."""

    def __init__(self) -> None:
        self._counts: dict[SentTo, Counter[str]] = {}
        self._lock = threading.Lock()

    def add(self, at: datetime, shop: str, provider: str, address: str) -> None:
        """Count a request; of an IPv6 address its /64."""
        scope = SentTo(at.replace(minute=0, second=0, microsecond=0), shop, provider)
        sender = find_network(address[:LONGEST_ADDRESS])
        with self._lock:
            if scope not in self._counts and len(self._counts) >= MOST_ENDPOINTS:
                return
            counts = self._counts.setdefault(scope, Counter())
            if sender not in counts and len(counts) >= MOST_IN_MEMORY:
                del counts[min(counts, key=counts.__getitem__)]
            counts[sender] += 1

    def take(self) -> list[tuple[datetime, str, str, str, int]]:
        """Return hour, shop, provider, address and count of all, and forget them."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return [(*scope, sender, count) for scope, found in counts.items() for sender, count in found.items()]


def record_senders(tx: Connection, counted: list[tuple[datetime, str, str, str, int]]) -> None:
    """Add ``counted`` to the stored addresses; keep the ``MOST_SENDERS`` of each hour, shop and provider."""
    lock_objects(tx, [(FLEET, "webhook-senders")])
    values = arrays("hour shop provider address count", counted)
    tx.exec_driver_sql(_ADD, values)
    tx.exec_driver_sql(_KEEP_MOST, {**values, "most": MOST_SENDERS})
