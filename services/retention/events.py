"""Archives old events with their work, and deletes them.

For each piece: record a planned archive and the keys; store the object; read it back; then, in one
transaction, delete exactly those rows that are unchanged and record the archive in the audit chain. After a
crash the next run finds the planned archive: if its object is stored it finishes it, else it begins again.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row

from services.audit.append import AuditEntry, Mutation, append_all
from services.audit.store import ObjectMissing, ObjectStore
from services.core.counts import format_count
from services.core.errors import Refused
from services.core.pg_arrays import int_array
from services.ledger.archive_keys import ensure_keys
from services.ledger.event_archive import (
    ArchiveBroken,
    ArchivedEvent,
    Begin,
    Line,
    make_line,
    open_lines,
    pack_lines,
    unpack_lines,
)  # fmt: skip
from services.privacy.persons import find_named, find_persons
from services.privacy.subject import DataSubject
from services.privacy.text_data import REDACTED_HEADER, redact_body
from services.retention.rules import EVENTS, IS_FINAL
from services.retention.verify import ARCHIVED

PIECE_EVENTS = 2000
PIECE_BYTES = 16 * 2**20
"""Most events and bytes of bodies of one archive: all are in memory."""

WINDOW_EVENTS = 100_000
"""Old events that are distributed over shops at a time."""

_FIND_OLD = f"""
select w.id, w.shop_id, w.received_at, octet_length(w.body) as size from inbound_events w
 where w.received_at >= %(after)s and (w.received_at, w.id) > (%(after)s, %(id)s) and {EVENTS.is_old}
 order by w.received_at, w.id limit %(limit)s
"""  # noqa: S608 - constants only

# ``version`` changes with every update of the row, such as a redaction. The lock makes a redaction wait until
# the keys are committed, so that it destroys them.
_READ = f"""
select e.id, e.xmin::text::bigint as version, e.shop_id, e.provider, e.topic, e.delivery_key, e.headers,
       e.body, e.received_at, e.occurred_at, e.duplicate_count, e.origin, e.request_id, e.replay_of,
       coalesce(o.key, '') as key, coalesce(o.work, '[]') as work
  from inbound_events e
 cross join lateral (
   select (array_agg(w.key order by w.id))[1] as key, bool_and({IS_FINAL}) as is_final,
          jsonb_agg(jsonb_build_object(
            'id', w.id, 'topic', w.topic, 'status', w.status, 'result', w.result, 'tries', w.retry_count,
            'error_code', w.error_code, 'finished_at', w.finished_at) order by w.id) as work
     from work_queue w where w.event_id = e.id) o
 where e.id = any(%(id)s::bigint[]) and o.is_final is not false
 order by e.id for share of e skip locked
"""  # noqa: S608 - constants only

_REDACT = "update inbound_events set body = %(body)s, headers = %(headers)s::jsonb where id = %(id)s"

_PLAN = "insert into event_archives (shop_id, object_key, planned_at) values (%s, '', %s) returning id"
_SET_KEY = """
update event_archives set object_key = %(key)s where id = %(id)s returning id, shop_id, object_key
"""
_FIND_PLANNED = """
select id, shop_id, object_key from event_archives where stored_at is null order by id for update skip locked
"""
_LOCK_PLANNED = "select id from event_archives where id = %(id)s and stored_at is null for update"
_DROP_PLANNED = "delete from event_archives where id = %(id)s and stored_at is null"

_LOCK_WORK = f"""
select w.id, w.event_id, {IS_FINAL} as is_final from work_queue w
 where w.event_id = any(%(id)s::bigint[]) order by w.id for update
"""  # noqa: S608 - constants only

_DELETE_EVENTS = """
delete from inbound_events e using unnest(%(id)s::bigint[], %(version)s::bigint[]) as v(id, version)
 where e.id = v.id and e.xmin::text::bigint = v.version
returning e.id, e.received_at
"""

_DELETE_WORK = "delete from work_queue where id = any(%(id)s::bigint[])"

_FINISH = """
update event_archives
   set stored_at = %(now)s, first_received_at = %(first)s, last_received_at = %(last)s,
       object_sha256 = %(sha256)s, object_bytes = %(bytes)s,
       event_ids = %(ids)s::bigint[], key_ids = %(keys)s::bigint[]
 where id = %(id)s
"""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ArchiveRun:
    """What one call did: events and work deleted here, archives and bytes stored; and who made it."""

    begin: Begin
    store: ObjectStore
    now: datetime
    retain_until: datetime | None
    by: str
    request_id: str
    events: int = 0
    work: int = 0
    archives: int = 0
    bytes_stored: int = 0
    dropped: int = 0
    """Planned archives whose object was not the stored one: their events are archived again."""


def archive_old_events(run: ArchiveRun, before: datetime, is_late: Callable[[], bool]) -> None:
    """Archive and delete the events received before ``before`` whose work is finished, until ``is_late``.

    Raises ``RetryLater`` or ``Misconfigured`` if the store cannot be used: then no further row is deleted.
    """
    with run.begin() as tx:
        planned = tx.exec_driver_sql(_FIND_PLANNED).all()
    for archive in planned:
        _continue(run, archive)
    for shop_id, ids in _find_pieces(run.begin, before, is_late):
        if (started := _plan(run, shop_id, ids)) is not None:
            archive, rows, lines = started
            data = pack_lines(shop_id, lines)
            run.store.put(archive.object_key, data, run.retain_until)
            if run.store.get(archive.object_key) != data:
                raise Refused(
                    "retention.archive_broken",
                    f"{archive.object_key} has other content than was stored; no event was deleted. Check "
                    "the store (`fleet doctor`); then `fleet jobs run retention --again` archives it again",
                )
            _finish(run, archive, data, rows, unpack_lines(data, archive.object_key))


def _find_pieces(
    begin: Begin, before: datetime, is_late: Callable[[], bool]
) -> Iterator[tuple[int, list[int]]]:
    """Yield the ids of old events by shop, oldest first, in pieces that fit into one archive."""
    values = {"after": EVENTS.begin, "id": 0, "before": before, "limit": WINDOW_EVENTS}
    while True:
        with begin() as tx:
            found = tx.exec_driver_sql(_FIND_OLD, values).all()
        by_shop: dict[int, list[Row[Any]]] = {}
        for row in found:
            by_shop.setdefault(row.shop_id, []).append(row)
        for shop_id, rows in sorted(by_shop.items()):
            ids: list[int] = []
            size = 0
            for row in rows:
                if ids and (len(ids) == PIECE_EVENTS or size + row.size > PIECE_BYTES):
                    yield shop_id, ids
                    ids, size = [], 0
                if is_late():
                    return
                ids.append(row.id)
                size += row.size
            yield shop_id, ids
        if len(found) < WINDOW_EVENTS:
            return
        values |= {"after": found[-1].received_at, "id": found[-1].id}


def _plan(
    run: ArchiveRun, shop_id: int, ids: Sequence[int]
) -> tuple[Row[Any], Sequence[Row[Any]], list[bytes]] | None:
    """Record a planned archive of the events ``ids``; return it with its rows and lines.

    Returns None if no event is left: other transactions use them.
    """
    with run.begin() as tx:
        rows = tx.exec_driver_sql(_READ, {"id": int_array(ids)}).all()
        named = {row.id: find_named(bytes(row.body), row.topic) for row in rows}
        persons, redacted = find_persons(tx, shop_id, named)
        late = {row.id for row in rows if persons[row.id] & redacted and REDACTED_HEADER not in row.headers}
        if late:
            _redact(tx, [row for row in rows if row.id in late], run.now)
            rows = tx.exec_driver_sql(_READ, {"id": int_array(row.id for row in rows)}).all()
        for row in rows:
            if REDACTED_HEADER in row.headers:
                persons[row.id] = set()
        if not rows:
            return None
        shop_key, keys = ensure_keys(tx, shop_id, set().union(*persons.values()), run.now)
        archive_id = tx.exec_driver_sql(_PLAN, (shop_id, run.now)).scalar_one()
        # A restored database uses ids again, so an id alone might name an object that exists.
        key = f"ledger/shop-{shop_id}/events-{run.now:%Y%m%dT%H%M%S}-{archive_id:09d}.jsonl.gz"
        archive = tx.exec_driver_sql(_SET_KEY, {"id": archive_id, "key": key}).one()
    lines = [
        make_line(row, [shop_key, *(keys[person] for person in sorted(persons[row.id]))]) for row in rows
    ]
    return archive, rows, lines


def _redact(tx: Connection, rows: Sequence[Row[Any]], now: datetime) -> None:
    """Blank the persons in events that arrived after the redaction of their customer."""
    at = now.astimezone(UTC).isoformat(timespec="seconds")
    for row in rows:
        body = redact_body(row, DataSubject(shop_id=row.shop_id), at) or bytes(row.body)
        headers = json.dumps({**row.headers, REDACTED_HEADER: at})
        tx.exec_driver_sql(_REDACT, {"id": row.id, "body": body, "headers": headers})


def _continue(run: ArchiveRun, archive: Row[Any]) -> None:
    """Finish an archive that was planned before a crash, or drop it if its object is missing or broken.

    Its events are still in the table then: this run archives them again, in another object.
    """
    try:
        data = run.store.get(archive.object_key)
        lines = unpack_lines(data, archive.object_key)
        with run.begin() as tx:
            stored = {one.id: one for one in open_lines(tx, archive.shop_id, lines)}
            rows = tx.exec_driver_sql(_READ, {"id": int_array(stored)}).all()
    except (ObjectMissing, ArchiveBroken) as fault:
        with run.begin() as tx:
            tx.exec_driver_sql(_DROP_PLANNED, {"id": archive.id})
        if isinstance(fault, ArchiveBroken):
            run.dropped += 1
            _log.warning("archive_dropped", extra={"fields": {"shop_id": archive.shop_id, "why": str(fault)}})
        return
    same = [row for row in rows if _is_same(row, stored[row.id])]
    _finish(run, archive, data, same, lines)


def _is_same(row: Row[Any], stored: object) -> bool:
    return isinstance(stored, ArchivedEvent) and (stored.headers, stored.body) == (
        row.headers,
        bytes(row.body),
    )


def _finish(
    run: ArchiveRun, archive: Row[Any], data: bytes, rows: Sequence[Row[Any]], lines: Sequence[Line]
) -> None:
    """Delete the events ``rows``, if they are unchanged, with their work; record the archive.

    Deletes nothing if another run has finished or dropped the archive: no row would name its object.
    """
    versions: Mapping[int, int] = {row.id: row.version for row in rows}
    with run.begin() as tx:
        if tx.exec_driver_sql(_LOCK_PLANNED, {"id": archive.id}).first() is None:
            return
        work = tx.exec_driver_sql(_LOCK_WORK, {"id": int_array(versions)}).all()
        open_events = {one.event_id for one in work if not one.is_final}
        ids = [event_id for event_id in versions if event_id not in open_events]
        values = {"id": int_array(ids), "version": int_array(versions[one] for one in ids)}
        deleted = {row.id: row.received_at for row in tx.exec_driver_sql(_DELETE_EVENTS, values)}
        if not deleted:
            # The object stays unused: a bucket may lock it. Without a row nothing reads it.
            tx.exec_driver_sql(_DROP_PLANNED, {"id": archive.id})
            return
        work_ids = [one.id for one in work if one.event_id in deleted]
        tx.exec_driver_sql(_DELETE_WORK, {"id": int_array(work_ids)})
        sha256, count = hashlib.sha256(data).hexdigest(), len(deleted)
        key_ids = {key_id for line in lines if line["id"] in deleted for key_id in line["keys"]}
        result = {
            "id": archive.id, "now": run.now, "first": min(deleted.values()), "last": max(deleted.values()),
            "sha256": sha256, "bytes": len(data), "ids": int_array(sorted(deleted)),
            "keys": int_array(sorted(key_ids)),
        }  # fmt: skip
        tx.exec_driver_sql(_FINISH, result)
        after = {
            "object_key": archive.object_key, "object_sha256": sha256, "object_bytes": len(data),
            "events": count, "first_id": min(deleted), "last_id": max(deleted),
        }  # fmt: skip
        with_work = format_count(len(work_ids), "item of work")
        summary = f"archived and deleted {format_count(count, 'event')} with {with_work}"
        mutation = Mutation("event_archives", str(archive.id), summary, None, after)
        append_all(tx, [AuditEntry(archive.shop_id, run.by, ARCHIVED, run.request_id, [mutation])], run.now)
    run.events += count
    run.work += len(work_ids)
    run.archives += 1
    run.bytes_stored += len(data)
    fields = {"shop_id": archive.shop_id, "events": count, "bytes": len(data), "key": archive.object_key}
    _log.info("events_archived", extra={"fields": fields})
