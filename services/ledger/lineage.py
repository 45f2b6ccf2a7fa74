"""Lineage: what led to an event or work and what followed, as one timeline. Reads by indexes alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Row

from services.audit.queries import per_chain, query_chain
from services.core.counts import format_count
from services.core.pg_arrays import int_array
from services.ledger.tables import inbound_events, work_queue

MAX_COPIES, MAX_WORK, MAX_ENTRIES = 100, 500, 2000
"""Most replays and edits, rows of work, and newest entries of people that one timeline reads."""
_FOLLOWING = 5000
"""Most entries of the shop's chain after the first effect in which mails and later effects are found."""

_FIND_EVENTS = """
select id, provider, topic, delivery_key, received_at, occurred_at, origin, replay_of, duplicate_count,
       request_id from inbound_events
 where id = any(%(roots)s::bigint[]) or replay_of = any(%(roots)s::bigint[]) order by id limit %(limit)s
"""
_FIND_WORK = """
select * from work_queue where id = %(work_id)s or event_id = any(%(events)s::bigint[])
 order by id limit %(limit)s
"""
_ENTRY = "select id, seq, at, staff_label, action, request_id, work_id, mutations from audit_events"
_FIND_EFFECTS = f"{_ENTRY} where work_id = any(%(work)s::bigint[]) order by id"
_FIND_FOLLOWING = per_chain(f"""
{_ENTRY} where OF_CHAIN and seq > %(seq)s and seq <= %(seq)s + {_FOLLOWING}
   and request_id = any(%(request_ids)s::text[]) order by seq limit %(limit)s
""")
_FIND_BY_PEOPLE = per_chain(f"""
select * from ({_ENTRY} where OF_CHAIN and work_id is null order by id desc limit %(limit)s) newest
 where at >= %(since)s
""")  # noqa: S608 - our own names


class LineageStep(NamedTuple):
    """One line of the timeline. ``kind`` is received, replay, edit, work, effect or act.

    ``event_id`` or ``work_id`` is the row that it is about.
    """

    at: datetime
    kind: str
    text: str
    by: str = ""
    event_id: int | None = None
    work_id: int | None = None


def list_lineage(
    tx: Connection, shop_id: int, *, event_id: int | None = None, work: Row[Any] | None = None
) -> list[LineageStep]:
    """Return what is recorded about an event, or about one row of work, the oldest first.

    Deliveries, replays and edits of the event, their work, the audit entries of this work and of their
    request ids, and what people did with these rows. Archived events and entries are left out.
    """
    events = _find_events(tx, event_id or (work.event_id if work else None))
    values = {"work_id": work.id if work else None, "events": int_array([row.id for row in events])}
    found = tx.exec_driver_sql(_FIND_WORK, values | {"limit": MAX_WORK}).all()
    effects = tx.exec_driver_sql(_FIND_EFFECTS, {"work": int_array([row.id for row in found])}).all()
    entries = {row.id: row for row in effects}
    if effects:
        requests = sorted({row.request_id for row in [*events, *found] if row.request_id})
        following = {"seq": min(row.seq for row in effects), "request_ids": requests, "limit": MAX_WORK}
        entries |= {row.id: row for row in query_chain(tx, _FIND_FOLLOWING, shop_id or None, **following)}
    steps = [step for row in events for step in _describe_event(row)]
    steps += [step for row in found for step in _describe_work(row)]
    steps += [_describe_entry(row, row.work_id) for row in entries.values()]
    times = [row.received_at for row in events] + [row.created_at for row in found]
    if times:
        names = {inbound_events.name: {row.id for row in events}, work_queue.name: {row.id for row in found}}
        acts = query_chain(tx, _FIND_BY_PEOPLE, shop_id or None, since=min(times), limit=MAX_ENTRIES)
        steps += [_describe_entry(row) for row in acts if row.id not in entries and _names_any(row, names)]
    return sorted(steps, key=lambda step: step.at)


def _find_events(tx: Connection, event_id: int | None) -> Sequence[Row[Any]]:
    if event_id is None:
        return []
    one = tx.exec_driver_sql(_FIND_EVENTS, {"roots": int_array([event_id]), "limit": MAX_COPIES}).all()
    roots = {row.replay_of for row in one if row.id == event_id and row.replay_of}
    if not roots:
        return one
    return tx.exec_driver_sql(_FIND_EVENTS, {"roots": int_array(roots), "limit": MAX_COPIES}).all()


def _describe_event(row: Row[Any]) -> Iterator[LineageStep]:
    if row.replay_of:
        text = f"event {row.id}, {'an edit' if row.origin == 'edit' else 'a replay'} of event {row.replay_of}"
        yield LineageStep(row.received_at, row.origin, text, event_id=row.id)
        return
    if row.occurred_at and row.occurred_at <= row.received_at:
        yield LineageStep(row.occurred_at, "received", f"happened at {row.provider}", event_id=row.id)
    copies = f", then {format_count(row.duplicate_count, 'more time')}" if row.duplicate_count else ""
    text = f"event {row.id}, {row.provider} {row.topic}, delivery {row.delivery_key} ({row.origin}){copies}"
    yield LineageStep(row.received_at, "received", text, event_id=row.id)


def _describe_work(row: Row[Any]) -> Iterator[LineageStep]:
    name = f"work {row.id} {row.topic}"
    yield LineageStep(row.created_at, "work", f"{name}: planned", work_id=row.id)
    if row.locked_at:
        yield LineageStep(row.locked_at, "work", f"{name}: started", row.locked_by or "", work_id=row.id)
    if row.died_at:
        yield LineageStep(row.died_at, "work", f"{name}: dead, requeued later", work_id=row.id)
    if row.next_retry_at and row.retry_count:
        text = f"{name}: try {row.retry_count + 1} is due after {row.error_code}"
        yield LineageStep(row.next_retry_at, "work", text, work_id=row.id)
    if row.finished_at:
        outcome = row.error_code if row.status == "dead" else row.result
        tries = f" after {format_count(row.retry_count, 'failed try')}" if row.retry_count else ""
        text = f"{name}: {row.status}{tries}" + (f" ({outcome})" if outcome else "")
        yield LineageStep(row.finished_at, "work", text, work_id=row.id)


def _describe_entry(row: Row[Any], work_id: int | None = None) -> LineageStep:
    text = "; ".join(str(one.get("summary", "")) for one in orjson.loads(row.mutations))
    kind = "effect" if work_id is not None else "act"
    return LineageStep(row.at, kind, f"{row.action}: {text}", row.staff_label, work_id=work_id)


def _names_any(entry: Row[Any], rows: Mapping[str, Iterable[int]]) -> bool:
    """Return whether a change of ``entry`` is about one of ``rows``: ids by table."""
    for one in orjson.loads(entry.mutations):
        after = one.get("after")
        after = after if isinstance(after, dict) else {}
        ranges = [str(one.get("row_id", "")), *(str(after.get(name, "")) for name in ("ids", "originals"))]
        wanted = rows.get(one.get("table_name"), ())
        if any(_is_in(number, ",".join(ranges)) for number in wanted):
            return True
    return False


def _is_in(number: int, ranges: str) -> bool:
    """Return whether ``number`` is in ranges such as ``101-164,170``; other texts are ignored."""
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit() and int(first) <= number <= int(last or first):
            return True
    return False
