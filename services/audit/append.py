"""Appending to the audit chains, in the same transaction as the changes they prove."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from services.audit.chain import FIRST_PREV_HASH, AuditEvent, Entry, Mutation, hash_event, mutations_text
from services.core.arrays import int_array
from services.core.bulk import copy_rows
from services.core.locks import Lock

__all__ = ["Entry", "Mutation", "append_all", "append_audit"]

_LOCK_SPACE = 0x41554454  # "AUDT": keeps the chains' advisory locks apart from anybody else's
_FLEET = 0  # stands for the fleet's own chain where a number is needed: shop ids begin at 1

_LOCK = Lock.CHAINS.mark("""
select pg_advisory_xact_lock(%(space)s, shop_id)
  from (select unnest(%(shop_id)s::int[]) as shop_id order by 1) sorted
""")

# One round trip for two questions: the heads of the chains, and (hash null) the items that are in a chain
# already. Nearly always every item is newer than all that were audited: then one look at the last is enough.
_HEADS = """
select v.shop_id, h.seq, h.hash
  from unnest(%(shop_id)s::int[]) as v(shop_id)
 cross join lateral (select e.seq, e.hash from audit_events e
                      where e.shop_id = v.shop_id order by e.seq desc limit 1) h
 union all
select 0, work_id, null from audit_events
 where %(least)s <= (select max(work_id) from audit_events) and work_id = any(%(work_id)s::bigint[])
"""

_FLEET_HEAD = "select seq, hash from audit_events where shop_id is null order by seq desc limit 1"

_COLUMNS = (*AuditEvent._fields, "prev_hash", "hash")

_LAST_ID = "select currval(pg_get_serial_sequence('audit_events', 'id'))"


def append_audit(
    tx: Connection,
    *,
    shop_id: int | None,
    staff_label: str,
    action: str,
    request_id: str,
    now: datetime,
    mutations: Sequence[Mutation],
) -> int:
    """Append one event to the chain of ``shop_id`` (None: the fleet's own) and return its id."""
    entry = Entry(shop_id, staff_label, action, request_id, mutations)
    append_all(tx, [entry], now)
    return int(tx.exec_driver_sql(_LAST_ID).scalar_one())


def append_all(tx: Connection, entries: Sequence[Entry], now: datetime) -> None:
    """Append ``entries`` to their chains, each chain in the order given.

    An entry whose ``work_id`` is in a chain already is passed over. A chain is locked until the
    transaction ends, so its order is the order of commits: call this last before the commit, and once,
    or two callers could wait for each other. ``seq`` counts from 1 without a gap.
    """
    if not entries:
        return
    # Whatever takes time is done before the lock is taken: others wait for as little as can be.
    ready = [(entry.shop_id or _FLEET, entry, mutations_text(entry.mutations)) for entry in entries]
    ready.sort(key=_chain_of)
    shops = sorted({shop for shop, _, _ in ready})
    tx.exec_driver_sql(_LOCK, {"space": _LOCK_SPACE, "shop_id": int_array(shops)})
    # A new statement: only that sees what the previous holder of the lock committed.
    heads, known = _find_heads(tx, shops, [entry.work_id for entry in entries if entry.work_id is not None])
    rows: list[tuple[Any, ...]] = []
    for shop, chain in groupby(ready, key=_chain_of):
        seq, last = heads.get(shop, (0, FIRST_PREV_HASH))
        for _, entry, mutations in chain:
            if entry.work_id is not None:
                if entry.work_id in known:
                    continue
                known.add(entry.work_id)
            seq += 1
            event = AuditEvent(
                shop or None, seq, now, entry.staff_label, entry.action, entry.request_id, entry.work_id,
                mutations,
            )  # fmt: skip
            prev_hash, last = last, hash_event(last, event)
            rows.append((*event, prev_hash, last))
    copy_rows(tx, "audit_events", _COLUMNS, rows)


def _chain_of(ready: tuple[int, Entry, str]) -> int:
    return ready[0]


def _find_heads(
    tx: Connection, shops: Sequence[int], told: Sequence[int]
) -> tuple[dict[int, tuple[int, str]], set[int]]:
    """Return the heads of the chains, and those of the items ``told`` of that a chain has already."""
    heads: dict[int, tuple[int, str]] = {}
    known: set[int] = set()
    values = {"shop_id": int_array(shops), "least": min(told, default=None), "work_id": int_array(told)}
    for shop, number, last in tx.exec_driver_sql(_HEADS, values):
        if last is None:
            known.add(number)
        else:
            heads[shop] = (number, last)
    if _FLEET in shops and (head := tx.exec_driver_sql(_FLEET_HEAD).first()):
        heads[_FLEET] = (head[0], head[1])
    return heads, known
