"""Links to unsubscribe. A link never expires: a person may keep a mail for years, and must be able to leave.

A link is signed with the random key of its person's row. ``SECRET_KEY`` changes every few months, and a link
that it signs would end at the second change.
"""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row

from services.outreach.series import SERIES

PATH = "/unsubscribe/"
_LARGEST_ID = 2**63 - 1
_LONGEST = 100
_FIND = "select id, shop_id, email, link_key from outreach_people where id = %(id)s"


class LinkTarget(NamedTuple):
    """Who unsubscribes, and from a mail of which series."""

    person_id: int
    shop_id: int
    series: str


def make_token(person_id: int, series: str, link_key: UUID) -> str:
    """Return the token of a person and a series: both as text, and their signature."""
    return f"{person_id}.{series}.{_sign(person_id, series, link_key)}"


def find_target(tx: Connection, token: str) -> LinkTarget | None:
    """Return the person and series of a token; None for one that was not made here."""
    parts = token.split(".") if len(token) <= _LONGEST and token.isascii() else []
    if len(parts) != 3 or not parts[0].isdecimal() or parts[1] not in SERIES:
        return None
    person_id = int(parts[0])
    if person_id > _LARGEST_ID:
        return None
    row: Row[tuple[int, int, str, UUID]] | None = tx.exec_driver_sql(_FIND, {"id": person_id}).first()
    # Somebody unknown costs as much time as a wrong signature.
    expected = _sign(person_id, parts[1], row.link_key if row else UUID(int=0))
    if not hmac.compare_digest(expected.encode(), parts[2].encode()) or row is None:
        return None
    return LinkTarget(person_id, row.shop_id, parts[1])


def _sign(person_id: int, series: str, link_key: UUID) -> str:
    digest = hmac.digest(link_key.bytes, f"unsubscribe/{person_id}/{series}".encode(), sha256)
    return urlsafe_b64encode(digest[:18]).decode()
