"""Sessions of signed-in browsers. The cookie has a random value, the table its hash."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, select, update

from services.accounts.tables import user_sessions

LONGEST = timedelta(days=7)
"""A session ends after this time."""
IDLE = timedelta(hours=12)
"""A session ends if no page is opened for this time."""
_SEEN_EVERY = timedelta(minutes=1)


class LiveSession(NamedTuple):
    """A session that has not ended, and whether more than a password began it."""

    user_id: int
    has_second_factor: bool


def start_session(
    tx: Connection,
    user_id: int,
    address: str,
    user_agent: str,
    now: datetime,
    *,
    has_second_factor: bool = False,
) -> str:
    """Record a new session; return the value for its cookie."""
    token = secrets.token_urlsafe(32)
    row = {
        "token_hash": hash_token(token),
        "user_id": user_id,
        "created_at": now,
        "seen_at": now,
        "ends_at": now + LONGEST,
        "has_second_factor": has_second_factor,
        "address": address,
        "user_agent": user_agent[:200],
    }
    tx.execute(insert(user_sessions).values(row))
    return token


def find_session(tx: Connection, token: str, now: datetime) -> LiveSession | None:
    """Return the session of ``token``, and record that it is in use; None if it ended."""
    table = user_sessions.c
    is_this = table.token_hash == hash_token(token)
    found = tx.execute(select(user_sessions).where(is_this)).one_or_none()
    if found is None or now >= found.ends_at or now - found.seen_at >= IDLE:
        return None
    if now - found.seen_at >= _SEEN_EVERY:
        tx.execute(update(user_sessions).where(is_this).values(seen_at=now))
    return LiveSession(found.user_id, found.has_second_factor)


def list_sessions(tx: Connection, user_id: int, now: datetime) -> Sequence[Row[Any]]:
    """Return the sessions of a person that have not ended, the one used last first."""
    table = user_sessions.c
    is_live = (table.ends_at > now) & (table.seen_at > now - IDLE)
    wanted = select(user_sessions).where(table.user_id == user_id, is_live)
    return tx.execute(wanted.order_by(table.seen_at.desc())).all()


def end_sessions(tx: Connection, user_id: int, token_hash: bytes | None = None) -> int:
    """End one session of a person, or all; return how many. Their rows stay, for ``is_new_address``."""
    table = user_sessions.c
    ended = update(user_sessions).where(table.user_id == user_id, table.ends_at > table.seen_at)
    if token_hash is not None:
        ended = ended.where(table.token_hash == token_hash)
    return int(tx.execute(ended.values(ends_at=table.seen_at)).rowcount)


def is_new_address(tx: Connection, user_id: int, address: str) -> bool:
    """Return whether a person with sessions has none from ``address``, as far back as they are kept."""
    table = user_sessions.c
    known = tx.execute(select(table.address).where(table.user_id == user_id).distinct()).scalars().all()
    return bool(known) and address not in known


def hash_token(token: str) -> bytes:
    """Return the stored form of a random value: its SHA-256, which needs no salt."""
    return sha256(token.encode("utf-8", "replace")).digest()
