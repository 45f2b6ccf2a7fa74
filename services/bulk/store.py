"""Starts, reads and ends bulk actions; every start and end is audited."""

import hmac
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Unpack

import orjson
from sqlalchemy import Connection, Row, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert

from services.audit.append import Author, Mutation, append_change
from services.bulk.kinds import TOPIC, BulkKind, RowFacts, find_cause_to_skip, group_skipped
from services.bulk.tables import bulk_actions
from services.core.counts import format_count
from services.core.errors import InputInvalid
from services.core.settings import get_settings
from services.ledger.accept import WorkRef, record_work
from services.ledger.requeue import id_ranges
from services.ledger.tables import work_queue
from services.ledger.work import FLEET, NewWork

LONGEST_KEY = 100
_column = bulk_actions.c
SHOWN = tuple(column for column in _column if column.name not in ("row_ids", "request_key", "request_hash"))
"""All but the ids of the rows, of which there may be 50,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPlan:
    """The rows that an action would change, and the ids of those that it leaves out, by cause.

    ``hidden`` are those of ``skipped`` at shops where it changes nothing: a reader may not see these.
    """

    kind: BulkKind
    rows: Sequence[RowFacts]
    skipped: Mapping[str, Sequence[int]]
    hidden: frozenset[int] = frozenset()

    def describe_skipped(self) -> dict[str, str]:
        """Return the ids that are left out, as ranges by cause, and the number of hidden ones."""
        found = {}
        for cause, ids in self.skipped.items():
            if shown := [one for one in ids if one not in self.hidden]:
                found[cause] = id_ranges(shown)
            if count := len(ids) - len(shown):
                found[f"{cause}, at other shops"] = format_count(count, "row")
        return found

    def count_by(self, field: str) -> dict[Any, int]:
        """Return the number of rows by ``shop_id``, ``topic`` or ``status``, the most first."""
        return dict(Counter(getattr(row, field) for row in self.rows).most_common())


def plan_bulk_action(
    kind: BulkKind,
    rows: Iterable[RowFacts],
    statuses: Sequence[str],
    shops: frozenset[int] | None,
    now: datetime,
) -> BulkPlan:
    """Return which of ``rows`` the action takes. Pure."""
    causes = [(find_cause_to_skip(kind, row, statuses, shops, now), row) for row in rows]
    taken = sorted(row for cause, row in causes if not cause)
    skipped = group_skipped((cause, row.id) for cause, row in causes)
    changed = {row.shop_id for row in taken}
    hidden = frozenset(row.id for cause, row in causes if cause and row.shop_id not in changed)
    return BulkPlan(kind=kind, rows=taken, skipped=skipped, hidden=hidden)


def start_bulk_action(
    tx: Connection,
    plan: BulkPlan,
    query: Mapping[str, str],
    *,
    user_id: int,
    request_key: str,
    at_most: int | None = None,
    sent: Mapping[str, str] | None = None,
    **author: Unpack[Author],
) -> tuple[int, Sequence[WorkRef]]:
    """Record the action and the work of its first chunk; return its id, and the work to notify workers of.

    A person's second start with one ``request_key`` returns the first action, and starts nothing: the same
    one has the same filters as they were ``sent``, else ``query``. Raises
    ``InputInvalid`` without a reason, without rows, for more rows than ``at_most``, and for a ``request_key``
    that is empty or that of another action.
    """
    reason = author.get("reason", "").strip()
    if not reason:
        raise InputInvalid("reason is empty: give the reason, which is audited with each row")
    if not 0 < len(request_key) <= LONGEST_KEY or not request_key.isprintable():
        raise InputInvalid(f"request_key should have 1 to {LONGEST_KEY} printable characters")
    request_hash = _hash_request(plan.kind, query if sent is None else sent)
    if found := _find_same(tx, user_id, request_key, request_hash):
        return found, ()
    if not plan.rows:
        causes = "; ".join(f"{len(ids):,}: {cause}" for cause, ids in plan.skipped.items())
        raise InputInvalid(f"no row can be {plan.kind.past}" + (f" ({causes})" if causes else ""))
    if at_most is not None and len(plan.rows) > at_most:
        raise InputInvalid(
            f"{format_count(len(plan.rows), 'row')} would be {plan.kind.past} now, not the {at_most:,} "
            "shown: check and confirm again"
        )
    row = {
        "list": plan.kind.list,
        "action": plan.kind.name,
        "query": dict(query),
        "row_ids": [one.id for one in plan.rows],
        "shop_ids": sorted({one.shop_id for one in plan.rows}),
        "total_count": len(plan.rows),
        "skipped": plan.describe_skipped(),
        "skipped_count": sum(map(len, plan.skipped.values())),
        "status": "running",
        "reason": reason,
        "started_by": author["by"],
        "user_id": user_id,
        "request_key": request_key,
        "request_hash": request_hash,
        "started_at": author["now"],
    }
    made = insert(bulk_actions).values(row).on_conflict_do_nothing().returning(_column.id)
    number = tx.execute(made).scalar()
    if number is None:  # a parallel start with the same key was committed meanwhile
        return _find_same(tx, user_id, request_key, request_hash), ()
    mutations: dict[int | None, list[Mutation]] = {}
    for shop_id, count in plan.count_by("shop_id").items():
        rows = f"{format_count(count, 'row')} of {plan.kind.list}"
        text = f"started bulk action {number}: {plan.kind.name} {rows}: {reason}"
        after = {"rows": count, "filters": dict(query)}
        mutations[shop_id or None] = [Mutation("bulk_actions", str(number), text, None, after)]
    append_change(tx, "bulk.start", mutations, **author)
    return number, record_work(tx, [make_chunk(number, 0, author.get("request_id", ""))], author["now"])


def _hash_request(kind: BulkKind, sent: Mapping[str, str]) -> str:
    """Return a keyed hash, because the filters may have text of payloads."""
    document = orjson.dumps([kind.list, kind.name, dict(sent)], option=orjson.OPT_SORT_KEYS)
    return hmac.digest(get_settings().secret_key.encode(), b"bulk action\0" + document, "sha256").hex()


def _find_same(tx: Connection, user_id: int, request_key: str, request_hash: str) -> int:
    is_same = (_column.user_id == user_id) & (_column.request_key == request_key)
    found = tx.execute(select(_column.id, _column.request_hash).where(is_same)).first()
    if found is None:
        return 0
    if not hmac.compare_digest(found.request_hash, request_hash):
        raise InputInvalid(f"the key {request_key!r} is that of bulk action {found.id}: send another one")
    return int(found.id)


def make_chunk(number: int, done_count: int, request_id: str) -> NewWork:
    """Return the work that handles the rows of the action from ``done_count`` on."""
    return NewWork(
        shop_id=FLEET,
        topic=TOPIC,
        key=str(number),
        payload={"from": done_count},
        origin="bulk",
        request_id=request_id,
    )


def find_bulk_action(tx: Connection, number: int) -> Row[Any] | None:
    """Return the action without the ids of its rows."""
    return tx.execute(select(*SHOWN).where(_column.id == number)).first()


def lock_chunk(tx: Connection, number: int, size: int) -> Row[Any] | None:
    """Return the action with its next ``size`` rows (``row_ids``), and lock it for ``tx``."""
    begin = _column.done_count + 1
    wanted: Select[Any] = select(*SHOWN, _column.row_ids[begin : begin + size - 1].label("row_ids"))
    return tx.execute(wanted.where(_column.id == number).with_for_update()).first()


def record_chunk(
    tx: Connection,
    action: Row[Any],
    handled: int,
    changed: int,
    skipped: Mapping[str, Sequence[int]],
    now: datetime,
) -> int:
    """Record that ``handled`` more rows are done; return how many are in all. After the last one it ends."""
    merged = dict(action.skipped)
    for cause, ids in skipped.items():
        merged[cause] = ",".join(filter(None, (merged.get(cause), id_ranges(ids))))
    done = int(action.done_count) + handled
    values = {
        "done_count": done,
        "changed_count": action.changed_count + changed,
        "skipped_count": action.skipped_count + sum(map(len, skipped.values())),
        "skipped": merged,
    }
    if done == action.total_count:
        values |= {"status": "done", "ended_at": now}
    tx.execute(update(bulk_actions).where(_column.id == action.id).values(values))
    return done


def stop_bulk_action(tx: Connection, number: int, why: str, **author: Unpack[Author]) -> bool:
    """Stop a running action after its present chunk; what it changed stays. Return whether it was running."""
    values = {"status": "stopped", "ended_at": author["now"], "error": why}
    is_running = (_column.id == number) & (_column.status == "running")
    stopped = update(bulk_actions).where(is_running).values(values)
    row = tx.execute(stopped.returning(_column.shop_ids, _column.done_count, _column.total_count)).first()
    if row is None:
        return False
    done = f"{row.done_count} of {format_count(row.total_count, 'row')}"
    text = f"stopped bulk action {number} after {done}: {why}"
    mutation = Mutation("bulk_actions", str(number), text)
    append_change(tx, "bulk.stop", {shop_id or None: [mutation] for shop_id in row.shop_ids}, **author)
    return True


def find_given_up_work(tx: Connection, number: int) -> int | None:
    """Return the id of the action's work that no worker does any more: it is dead, or was discarded."""
    column = work_queue.c
    is_its = (column.topic == TOPIC) & (column.shop_id == FLEET) & (column.key == str(number))
    wanted = select(func.max(column.id)).where(is_its, column.status.in_(("dead", "discarded")))
    return tx.execute(wanted).scalar()
