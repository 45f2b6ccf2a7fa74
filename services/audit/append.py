"""Append to the audit chains, in the transaction that makes the changes.

Callers add entries anywhere in a transaction. The transaction appends all of them just before the commit,
with one lock statement: so there is no deadlock, and a chain is locked briefly.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NotRequired, TypedDict, Unpack

from sqlalchemy import Connection

from services.audit.chain import (
    FIRST_PREV_HASH,
    MAX_SEQ,
    AuditEntry,
    Mutation,
    event_text,
    format_utc,
    hash_text,
    mutations_text,
)
from services.core.db import add_at_commit
from services.core.locks import LockKind
from services.core.pg_arrays import int_array
from services.core.pg_copy import copy_rows

__all__ = ["AuditEntry", "Author", "Mutation", "append_all", "append_change", "append_now"]

_LOCK_SPACE = 0x41554454  # "AUDT": the advisory locks of the chains
_FLEET = 0  # the fleet's chain, where a number is needed: shop ids begin at 1

_LOCK = LockKind.CHAINS.mark("""
select pg_advisory_xact_lock(%(space)s, shop_id)
  from (select unnest(%(shop_id)s::int[]) as shop_id order by 1) sorted
""")

# One round trip for two queries: the heads of the chains, and (hash null) work items that are in a chain.
# Nearly always all items are newer than all audited ones: then reading the newest is enough.
_HEADS = f"""
select v.shop_id, h.seq, h.hash
  from unnest(%(shop_id)s::int[]) as v(shop_id)
 cross join lateral (select e.seq, e.hash from audit_events e
                      where e.shop_id = v.shop_id and e.seq <= {MAX_SEQ} order by e.seq desc limit 1) h
 union all
select 0, work_id, null from audit_events
 where %(least)s <= (select max(work_id) from audit_events) and work_id = any(%(work_id)s::bigint[])
"""  # noqa: S608 - the number is our own

_FLEET_HEAD = f"""
select seq, hash from audit_events where shop_id is null and seq <= {MAX_SEQ} order by seq desc limit 1
"""  # noqa: S608 - the number is our own

_AUDITED = """
select work_id, coalesce(shop_id, 0), staff_label, action, request_id, mutations
  from audit_events where work_id = any(%(work_id)s::bigint[])
"""

WORK_ID_TAKEN = "audit.work_id_taken"
"""Action of the event that follows a change of a work item whose audited event has other content."""

_log = logging.getLogger(__name__)

_Prepared = tuple[int, AuditEntry, str, datetime]
"""The number of a chain, an entry, the text of its mutations and its time."""

_Content = tuple[int, str, str, str, str]
"""Chain, label, action, request id and mutations: equal for two events of one work item."""

_COLUMNS = (
    "shop_id", "seq", "at", "staff_label", "action", "request_id", "work_id", "mutations", "prev_hash",
    "hash",
)  # fmt: skip

_LAST_ID = "select currval(pg_get_serial_sequence('audit_events', 'id'))"

_chain_of = itemgetter(0)


def append_all(tx: Connection, entries: Sequence[AuditEntry], now: datetime) -> None:
    """Append ``entries``, dated ``now``, when ``tx`` commits: each chain in the order of the calls.

    An entry whose ``work_id`` is in a chain is skipped if that event has the same content. If not (the
    application's role can write events of future work), the entry is appended without its ``work_id``, and an
    event ``WORK_ID_TAKEN`` follows it. ``seq`` counts from 1 without a gap.
    """
    if entries:
        add_at_commit(tx, _append, [_prepare(entry, now) for entry in entries])


class Author(TypedDict):
    """Who makes a change, when and why: keyword arguments of every change that a person can make."""

    by: str
    now: datetime
    reason: NotRequired[str]
    request_id: NotRequired[str]


def append_change(
    tx: Connection, action: str, mutations: Mapping[int | None, Sequence[Mutation]], **author: Unpack[Author]
) -> None:
    """Append an entry with the ``mutations`` of each shop, as ``append_all`` does."""
    by, request_id = author["by"], author.get("request_id", "")
    entries = [AuditEntry(shop_id, by, action, request_id, made) for shop_id, made in mutations.items()]
    append_all(tx, entries, author["now"])


def append_now(tx: Connection, entry: AuditEntry, now: datetime) -> int:
    """Append ``entry`` and return its id.

    The chain is locked from here to the commit: add nothing else to a chain in the same transaction.
    """
    _append(tx, [_prepare(entry, now)])
    return int(tx.exec_driver_sql(_LAST_ID).scalar_one())


def _prepare(entry: AuditEntry, now: datetime) -> _Prepared:
    return entry.shop_id or _FLEET, entry, mutations_text(entry.mutations), now


def _append(tx: Connection, prepared: list[_Prepared]) -> None:
    """Write the events. All chains are locked here, in the order of their numbers, until the commit."""
    prepared.sort(key=_chain_of)
    shops = sorted({shop for shop, *_ in prepared})
    tx.exec_driver_sql(_LOCK, {"space": _LOCK_SPACE, "shop_id": int_array(shops)})
    # A new statement, because only that reads what the previous holder of the lock committed.
    work_ids = [entry.work_id for _, entry, *_ in prepared if entry.work_id is not None]
    heads, known = _find_heads(tx, shops, work_ids)
    rows: list[tuple[Any, ...]] = []
    for shop, chain in groupby(_plan_events(prepared, known), key=_chain_of):
        seq, last = heads.get(shop, (0, FIRST_PREV_HASH))
        for _, (_, label, action, request_id, _, work_id), mutations, now in chain:
            seq, prev_hash, shop_id = seq + 1, last, shop or None
            text = event_text(shop_id, seq, format_utc(now), label, action, request_id, work_id, mutations)
            last = hash_text(prev_hash, text)
            rows.append((shop_id, seq, now, label, action, request_id, work_id, mutations, prev_hash, last))
    copy_rows(tx, "audit_events", _COLUMNS, rows)


def _plan_events(prepared: Iterable[_Prepared], known: dict[int, _Content]) -> Iterator[_Prepared]:
    """Yield the events to append; ``known`` has the content of work items that are in a chain."""
    for one in prepared:
        shop, entry, mutations, now = one
        if entry.work_id is None:
            yield one
            continue
        content = (shop, entry.staff_label, entry.action, entry.request_id, mutations)
        found = known.setdefault(entry.work_id, content)
        if found is content:
            yield one
        elif found != content:
            yield shop, entry._replace(work_id=None), mutations, now
            fields = {"work_id": entry.work_id, "shop_id": entry.shop_id, "action": entry.action}
            _log.error("audit_work_id_taken", extra={"fields": fields})
            yield _prepare(_note_taken(entry), now)


def _note_taken(entry: AuditEntry) -> AuditEntry:
    summary = (
        f"work item {entry.work_id} has another event in the audit already: the event before this one is "
        "also its change"
    )
    noted = Mutation("audit_events", str(entry.work_id), summary, None, {"action": entry.action})
    return AuditEntry(entry.shop_id, "audit", WORK_ID_TAKEN, entry.request_id, [noted])


def _find_heads(
    tx: Connection, shops: Sequence[int], work_ids: Sequence[int]
) -> tuple[dict[int, tuple[int, str]], dict[int, _Content]]:
    """Return the heads of the chains, and the content of those ``work_ids`` that are in a chain."""
    heads: dict[int, tuple[int, str]] = {}
    taken: list[int] = []
    least, items = min(work_ids, default=None), int_array(work_ids)
    for shop, number, last in tx.exec_driver_sql(
        _HEADS, {"shop_id": int_array(shops), "least": least, "work_id": items}
    ):
        if last is None:
            taken.append(number)
        else:
            heads[shop] = (number, last)
    if _FLEET in shops and (head := tx.exec_driver_sql(_FLEET_HEAD).first()):
        heads[_FLEET] = (head.seq, head.hash)
    known: dict[int, _Content] = {}
    if taken:
        found = tx.exec_driver_sql(_AUDITED, {"work_id": int_array(taken)})
        known = {work_id: (shop, *content) for work_id, shop, *content in found}
    return heads, known
