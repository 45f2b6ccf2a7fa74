"""When a secret was last used with success, written at most once in ``WRITTEN_EVERY`` for each secret."""

import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.core.db import transaction
from services.core.pg_arrays import arrays
from services.providers.call_outcomes import CallOutcomes
from services.providers.registry import find_provider

WRITTEN_EVERY = timedelta(hours=1)
CALLS_EVERY = timedelta(minutes=10)
"""How often a process compares calls with what is stored: a call does not know which secret is current."""

_Key = TypeVar("_Key", bound=Hashable)

# A locked row is skipped: its secret is being replaced, or another process writes it.
_WRITE = """
with due as (
  select s.id, v.at from unnest(%(id)s::int[], %(at)s::timestamptz[]) as v(id, at)
    join shop_secrets s on s.id = v.id
   where s.last_used_at is null or s.last_used_at <= v.at - %(every)s::interval
     for update of s skip locked
)
update shop_secrets s set last_used_at = due.at from due where s.id = due.id
"""
_FIND_CURRENT = """
select max(s.id) from unnest(%(shop_id)s::int[], %(name)s::text[]) as v(shop_id, name)
  join shop_secrets s on s.shop_id = v.shop_id and s.name = v.name and s.expires_at is null
 group by s.shop_id, s.name
"""


def write_secret_uses(tx: Connection, used: Mapping[int, datetime]) -> None:
    """Store the time of the last use of each secret, by its id, unless one of the last hour is stored."""
    if used:
        tx.exec_driver_sql(_WRITE, {**arrays("id at", sorted(used.items())), "every": WRITTEN_EVERY})


def write_current_uses(tx: Connection, pairs: Iterable[tuple[int, str]], at: datetime) -> None:
    """Store ``at`` as the last use of the current secret of each (shop, name) that has one."""
    ids = tx.exec_driver_sql(_FIND_CURRENT, arrays("shop_id name", pairs)).scalars().all()
    write_secret_uses(tx, dict.fromkeys(ids, at))


def list_accepted(found: Iterable[tuple[int, CallOutcomes]]) -> set[tuple[int, str]]:
    """Return (shop, provider) of the calls that were accepted. Pure."""
    return {(shop_id, name) for shop_id, calls in found for (name, _), one in calls.items() if one is None}


def find_call_secret(provider: str) -> str:
    """Return the name of the secret with which a shop's ``provider`` is called; "" for none."""
    known = find_provider(provider)
    return next((kind.name for kind in known.secrets if not kind.is_webhook), "") if known else ""


class SecretUses:
    """What this process has written, so that most uses cost no query.

    Each writes in a transaction of its own, because a transaction of work must not hold rows of secrets.
    """

    def __init__(self) -> None:
        self._written: dict[Hashable, datetime] = {}
        self._lock = threading.Lock()

    def record_ids(self, engine: Engine, used: Mapping[int, datetime]) -> None:
        """Store uses of the secrets with these ids."""
        due = self._select_due(used, WRITTEN_EVERY)
        if due:
            with self._keeping(due), transaction(engine) as tx:
                write_secret_uses(tx, due)

    def record_calls(self, engine: Engine | None, calls: Iterable[tuple[int, str]], now: datetime) -> None:
        """Store uses of the current secret of each (shop, provider) that accepted a call."""
        due = self._select_due(dict.fromkeys(calls, now), CALLS_EVERY)
        pairs = sorted((shop_id, find_call_secret(provider)) for shop_id, provider in due)
        if pairs:
            with self._keeping(due), transaction(engine) as tx:
                write_current_uses(tx, pairs, now)

    def _select_due(self, used: Mapping[_Key, datetime], every: timedelta) -> dict[_Key, datetime]:
        with self._lock:
            return {
                key: at
                for key, at in used.items()
                if (written := self._written.get(key)) is None or at - written >= every
            }

    @contextmanager
    def _keeping(self, due: Mapping[Any, datetime]) -> Iterator[None]:
        """Keep what the block writes. A fault of the database ends the block: a later use is written."""
        with suppress(DBAPIError, PoolTimeout):
            yield
            with self._lock:
                self._written.update(due)
