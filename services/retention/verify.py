"""Verifies the archives of events: their objects against the database, the audit chain and their keys."""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.store import ObjectStore
from services.core.counts import format_count
from services.ledger.event_archive import (
    ArchiveBroken,
    Begin,
    SealedEvent,
    list_archives,
    open_lines,
    read_object,
)  # fmt: skip
from services.ledger.filters import EventFilter

ARCHIVED = "events.archive"
"""Action of the audit entry of an archive."""

_FIND_ENTRIES = """
select m.row_id::bigint as id, m.after ->> 'object_sha256' as sha256
  from audit_events e join audit_mutations m on m.event_id = e.id
 where e.action = %(action)s and (%(shop_id)s::int is null or e.shop_id = %(shop_id)s)
"""


class VerifiedArchive(NamedTuple):
    """An archive, its events that can be read, those whose keys are destroyed, and its fault or ""."""

    id: int
    shop_id: int
    object_key: str
    object_bytes: int
    events: int
    readable: int = 0
    destroyed: int = 0
    is_in_audit: bool = False
    """Whether its audit entry is in the database; after 90 days the entry is in an archive of the audit."""
    fault: str = ""


def verify_archives(begin: Begin, store: ObjectStore, shop_id: int | None) -> Iterator[VerifiedArchive]:
    """Read every archive, of one shop or of all, and yield what was found."""
    with begin() as tx:
        archives = list_archives(tx, EventFilter(shop_id=shop_id))
        sums = _find_sums(tx, shop_id)
    for one in archives:
        events = len(one.event_ids)
        archive = VerifiedArchive(one.id, one.shop_id, one.object_key, one.object_bytes, events)
        noted = sums.get(one.id)
        if noted not in (None, one.object_sha256):
            fault = f"the audit chain has the SHA-256 {noted}, the database {one.object_sha256}"
            yield archive._replace(fault=fault)
            continue
        try:
            lines = read_object(store, one)
            with begin() as tx:
                found = open_lines(tx, one.shop_id, lines)
        except ArchiveBroken as broken:
            yield archive._replace(fault=str(broken))
            continue
        sealed = [event for event in found if isinstance(event, SealedEvent)]
        faults = [event.why for event in sealed if not event.is_destroyed]
        if len(found) != events:
            faults.insert(0, f"it has {format_count(len(found), 'event')}, it was stored with {events}")
        yield archive._replace(
            readable=len(found) - len(sealed),
            destroyed=len(sealed) - sum(not event.is_destroyed for event in sealed),
            is_in_audit=noted is not None,
            fault=faults[0] if faults else "",
        )


def _find_sums(tx: Connection, shop_id: int | None) -> dict[int, str]:
    rows = tx.exec_driver_sql(_FIND_ENTRIES, {"action": ARCHIVED, "shop_id": shop_id})
    return {row.id: row.sha256 for row in rows}
