"""Suppressions: addresses to which a shop, or the fleet itself, sends no mail, or no commercial mail.

``bounced`` stops every mail, except that alerts to operators are still tried; ``blocked_by_person`` stops
every mail; ``complained`` and ``unsubscribed`` stop commercial mail.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.audit.append import append_change
from services.audit.chain import Mutation
from services.core.db import Page, fetch_page
from services.core.errors import InputInvalid, NothingToDo
from services.core.pg_arrays import arrays
from services.ledger.work import FLEET
from services.mail.system_mails import AUDIT_FAILED_MAIL, INCIDENT_MAIL, JOB_LATE_MAIL
from services.providers.outgoing_mail import AddressInvalid, ascii_address, mask_address

BOUNCED, COMPLAINED, UNSUBSCRIBED = "bounced", "complained", "unsubscribed"
BLOCKED = "blocked_by_person"
REASONS = (BOUNCED, BLOCKED, COMPLAINED, UNSUBSCRIBED)
"""The ones that stop every mail are first."""
STOPS_EVERY_MAIL = frozenset({BOUNCED, BLOCKED})
SUPPRESSED = "mail.suppressed"
"""The error code of a mail that is not sent because its address is suppressed."""
ALERT_KINDS = frozenset({INCIDENT_MAIL.name, JOB_LATE_MAIL.name, AUDIT_FAILED_MAIL.name})

_INSERT = """
insert into mail_suppressions (shop_id, address, reason, source, mail_id, created_at)
select shop_id, address, reason, source, mail_id, %(now)s
  from unnest(%(shop_id)s::int[], %(address)s::text[], %(reason)s::text[], %(source)s::text[],
              %(mail_id)s::bigint[]) as v(shop_id, address, reason, source, mail_id)
 where not exists (select from mail_suppressions h where h.address = encode(sha256(convert_to(
         coalesce(v.shop_id, 0) || ' ' || v.address, 'UTF8')), 'hex')
         and h.shop_id is not distinct from v.shop_id and h.reason = v.reason)
 order by address, shop_id, reason
on conflict on constraint uq_mail_suppressions_address do nothing
returning id, shop_id, address, reason, source
"""

_FIND = """
select distinct v.shop_id, v.address, s.reason
  from unnest(%(shop_id)s::int[], %(address)s::text[], %(hash)s::text[]) as v(shop_id, address, hash)
  join mail_suppressions s on s.address in (v.address, v.hash) and s.shop_id is not distinct from v.shop_id
"""

_DELETE = """
delete from mail_suppressions
 where address in (%(address)s, %(hash)s) and shop_id is not distinct from %(shop_id)s::int
   and reason = any(%(reasons)s::text[])
returning id, reason, source
"""

_LIST = """
select id, shop_id, address, reason, source, mail_id, created_at from mail_suppressions
 where (%(all)s or shop_id is not distinct from %(shop_id)s::int)
   and (%(reason)s = '' or reason = %(reason)s)
   and (%(address)s = '' or address in (%(address)s, %(hash)s))
 order by id desc limit %(limit)s
"""

Addressee = tuple[int | None, str]
"""Who sends (a shop, or None for the fleet itself) and to which address."""


class Suppression(NamedTuple):
    """A suppression to insert. ``source`` is what reported it, such as ``sendgrid event <id>``."""

    shop_id: int | None
    address: str
    reason: str
    source: str
    mail_id: int | None = None


def normalize_address(address: str) -> str:
    """Return ``address`` as it is compared: in lower case, with its domain as mail servers write it."""
    try:
        return ascii_address(address).lower()
    except AddressInvalid:
        return address.strip().lower()


def hash_address(shop_id: int | None, address: str) -> str:
    """Return what replaces a normalized ``address`` after a redaction: it stops mail and cannot be read."""
    return hashlib.sha256(f"{shop_id or FLEET} {address}".encode()).hexdigest()


def suppress(
    tx: Connection,
    shop_id: int | None,
    address: str,
    reason: str,
    source: str,
    now: datetime,
    *,
    mail_id: int | None = None,
    by: str = "mail",
    request_id: str = "",
) -> bool:
    """Suppress ``address`` for mail of ``shop_id`` (None: the fleet itself); return whether that is new."""
    new = [Suppression(shop_id, address, reason, source, mail_id)]
    return bool(record_suppressions(tx, new, now, by=by, request_id=request_id))


def record_suppressions(
    tx: Connection, new: Iterable[Suppression], now: datetime, *, by: str = "mail", request_id: str = ""
) -> int:
    """Insert ``new`` with an audit entry each; return how many were not there, also not as a hash."""
    first = {(one.shop_id, normalize_address(one.address), one.reason): one for one in reversed([*new])}
    if not first:
        return 0
    rows = [(*key, one.source, one.mail_id) for key, one in first.items()]
    values = arrays("shop_id address reason source mail_id", rows) | {"now": now}
    inserted = tx.exec_driver_sql(_INSERT, values).all()
    for shop_id in sorted({row.shop_id for row in inserted}, key=lambda one: one or FLEET):
        made = [
            _describe(row, row.address, f"is stopped: {row.reason}", after=_facts(row))
            for row in inserted
            if row.shop_id == shop_id
        ]
        append_change(tx, "mail.suppress", {shop_id: made}, now=now, by=by, request_id=request_id)
    return len(inserted)


def unsuppress(
    tx: Connection,
    shop_id: int | None,
    address: str,
    now: datetime,
    *,
    by: str,
    why: str,
    reasons: Collection[str] = REASONS,
    request_id: str = "",
) -> list[str]:
    """Delete the suppressions of ``address`` for ``reasons``; return the reasons of those that were there.

    Raises ``NothingToDo`` if there is none, ``InputInvalid`` without ``why``.
    """
    if not why.strip():
        raise InputInvalid("reason is empty: write why mail may go to this address again, for the audit")
    found = normalize_address(address)
    values = {"shop_id": shop_id, "address": found, "hash": hash_address(shop_id, found)}
    gone = tx.exec_driver_sql(_DELETE, values | {"reasons": list(reasons)}).all()
    if not gone:
        raise NothingToDo(f"mail to {mask_address(found)} is not suppressed for {', '.join(reasons)}")
    made = [_describe(row, found, f"may be sent again: {why}", before=_facts(row)) for row in gone]
    append_change(tx, "mail.unsuppress", {shop_id: made}, now=now, by=by, request_id=request_id)
    return sorted(row.reason for row in gone)


def find_suppressed(tx: Connection, addressees: Collection[Addressee]) -> dict[Addressee, tuple[str, ...]]:
    """Return the reasons of each of ``addressees`` that is suppressed, in one query."""
    normal = {one: (one[0], normalize_address(one[1])) for one in addressees}
    if not normal:
        return {}
    rows = [(*key, hash_address(*key)) for key in dict.fromkeys(normal.values())]
    found: dict[Addressee, set[str]] = {}
    for shop_id, address, reason in tx.exec_driver_sql(_FIND, arrays("shop_id address hash", rows)):
        found.setdefault((shop_id, address), set()).add(reason)
    return {
        one: tuple(reason for reason in REASONS if reason in found[key])
        for one, key in normal.items()
        if key in found
    }


def find_stop(reasons: Sequence[str], *, is_commercial: bool, is_alert: bool = False) -> str:
    """Return which of ``reasons`` stops a mail, or an empty text. ``is_alert``: an alert of the fleet."""
    for reason in reasons:
        if is_alert and reason == BOUNCED:
            continue
        if is_commercial or reason in STOPS_EVERY_MAIL:
            return reason
    return ""


def find_stopped(tx: Connection, mails: Collection[Row[Any]]) -> dict[int, str]:
    """Return the reason that stops each of ``mails`` (rows of the outbox), by id; one query for all."""
    reasons = find_suppressed(tx, {(mail.shop_id, mail.recipient) for mail in mails})
    stops = {
        mail.id: find_stop(
            reasons.get((mail.shop_id, mail.recipient), ()),
            is_commercial=mail.is_commercial,
            is_alert=mail.shop_id is None and mail.kind in ALERT_KINDS,
        )
        for mail in mails
    }
    return {mail_id: reason for mail_id, reason in stops.items() if reason}


def list_suppressions(
    tx: Connection, *, shop_id: int | None = None, reason: str = "", address: str = "", limit: int = 50
) -> Page[Row[Any]]:
    """Return suppressions, newest first. ``shop_id`` None means all, ``FLEET`` the fleet's own."""
    scope = None if shop_id == FLEET else shop_id
    found = normalize_address(address)
    values: Mapping[str, Any] = {
        "all": shop_id is None,
        "shop_id": scope,
        "reason": reason,
        "address": found,
        "hash": hash_address(scope, found),
    }
    return fetch_page(tx, _LIST, limit, values)


def _facts(row: Row[Any]) -> dict[str, str]:
    return {"reason": row.reason, "source": row.source}


def _describe(row: Row[Any], address: str, what: str, **states: Mapping[str, Any]) -> Mutation:
    """Return the change of ``row``. The address is masked: a chain is never redacted."""
    shown = mask_address(address)
    return Mutation("mail_suppressions", str(row.id), f"mail to {shown} {what}", **states)
