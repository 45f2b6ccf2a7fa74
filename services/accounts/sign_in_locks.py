"""Locks of sign-in: after too many wrong passwords or codes, for a time. They end by themselves.

An account that does not exist is locked as one that does, so the answer does not tell which exist. Passkeys
and links from a mail are not affected: a stranger cannot lock a person out.
"""

import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, func, select, tuple_

from services.accounts.emails import fold_email
from services.accounts.tables import sign_in_locks
from services.core.networks import find_network
from services.core.settings import get_settings

MAX_FAILURES: Mapping[str, int] = MappingProxyType({"account": 5, "address": 20, "link": 3})
"""The number of failures, or of mailed links, that locks. Several people may share an address."""
LOCK_FOR: Mapping[str, timedelta] = MappingProxyType(
    {"account": timedelta(minutes=15), "address": timedelta(minutes=15), "link": timedelta(hours=1)}
)
"""How long a lock lasts, and how long failures are counted, by kind."""

_PURPOSE = b"shopfleet/sign-in-lock/v1"

# One statement, so that parallel attempts are all counted. A failure while locked does not extend the lock.
_COUNT = """
insert into sign_in_locks as l (kind, subject, failures, first_at, last_at)
values (%(kind)s, %(subject)s, 1, %(now)s, %(now)s)
on conflict (kind, subject) do update
   set failures = case when l.last_at < %(since)s or l.locked_until <= %(now)s then 1
                       else l.failures + 1 end,
       first_at = case when l.last_at < %(since)s or l.locked_until <= %(now)s then %(now)s
                       else l.first_at end,
       locked_until = case when l.locked_until > %(now)s then l.locked_until end,
       last_at = %(now)s
returning failures, locked_until
"""


class Subject(NamedTuple):
    """What is locked. ``value`` is an address for the kind ``address``, else the typed email."""

    kind: str
    value: str


def find_lock(tx: Connection, subjects: Iterable[Subject], now: datetime) -> datetime | None:
    """Return until when sign-in is locked for any of ``subjects``; None if it is open."""
    pairs = [(one.kind, _hash(one)) for one in subjects]
    table = sign_in_locks.c
    found = select(func.max(table.locked_until)).where(tuple_(table.kind, table.subject).in_(pairs))
    until: datetime | None = tx.execute(found).scalar()
    return until if until is not None and until > now else None


def count_failure(tx: Connection, subjects: Iterable[Subject], now: datetime) -> datetime | None:
    """Count a failed sign-in; return until when one of ``subjects`` is locked by it, if it is."""
    locked: datetime | None = None
    for one in subjects:
        values = {"kind": one.kind, "subject": _hash(one), "now": now, "since": now - LOCK_FOR[one.kind]}
        failures, until = tx.exec_driver_sql(_COUNT, values).one()
        if until is None and failures >= MAX_FAILURES[one.kind]:
            until = now + LOCK_FOR[one.kind]
            tx.execute(sign_in_locks.update().where(_is(one)).values(locked_until=until))
            locked = until
    return locked


def take_link(tx: Connection, email: str, now: datetime) -> bool:
    """Count a link that is mailed to ``email``; return whether the limit of an hour allows it."""
    subject = Subject("link", email)
    count_failure(tx, [subject], now)
    sent: int = tx.execute(select(sign_in_locks.c.failures).where(_is(subject))).scalar_one()
    return sent <= MAX_FAILURES["link"]


def clear_failures(tx: Connection, subject: Subject) -> bool:
    """End the lock of ``subject`` and forget its failures; return whether it was locked or had any."""
    return bool(tx.execute(delete(sign_in_locks).where(_is(subject))).rowcount)


def _is(one: Subject) -> ColumnElement[bool]:
    return (sign_in_locks.c.kind == one.kind) & (sign_in_locks.c.subject == _hash(one))


def _hash(one: Subject) -> bytes:
    key = get_settings().secret_key.encode()
    value = find_network(one.value) if one.kind == "address" else fold_email(one.value)
    text = f"{one.kind}\0{value}"
    return hmac.digest(key, _PURPOSE + text.encode("utf-8", "replace"), "sha256")
