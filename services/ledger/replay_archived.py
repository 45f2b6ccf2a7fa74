"""Replay of archived events: records them again from the archive store, as long as their keys exist."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Unpack

from sqlalchemy import Connection, Row

from services.audit.append import Author
from services.audit.store import ObjectStore
from services.core.locks import lock_bodies
from services.ledger.accept import WorkRef
from services.ledger.event_archive import (
    ArchivedEvent,
    Begin,
    Line,
    SealedEvent,
    is_wanted,
    list_archives,
    open_lines,
    read_object,
)  # fmt: skip
from services.ledger.filters import EventFilter
from services.ledger.replay import COPIES, SET_SIZE, record_replays


class ArchivedMatch(NamedTuple):
    """The archived events of one object that match, and those that match and cannot be read."""

    events: list[ArchivedEvent]
    sealed: list[SealedEvent]


class ArchivedReplay(NamedTuple):
    """The ids of the new events, the work to notify workers of, and the events that cannot be read."""

    event_ids: list[int]
    work: list[WorkRef]
    sealed: list[SealedEvent]


def read_archived(begin: Begin, store: ObjectStore, wanted: EventFilter) -> Iterator[ArchivedMatch]:
    """Yield the archived events of ``wanted``, oldest first, object by object.

    Without ids and origin earlier replays and edits are left out. Raises ``ArchiveBroken`` for an altered
    object.
    """
    for archive, lines in _read_lines(begin, store, wanted):
        with begin() as tx:
            match = _open_match(tx, archive, lines)
        yield match


def _read_lines(
    begin: Begin, store: ObjectStore, wanted: EventFilter
) -> Iterator[tuple[Row[Any], list[Line]]]:
    with begin() as tx:
        archives = list_archives(tx, wanted)
    for archive in archives:
        yield (
            archive,
            [
                line
                for line in read_object(store, archive)
                if is_wanted(line, wanted) and (wanted.ids or wanted.origin or line["origin"] not in COPIES)
            ],
        )


def _open_match(tx: Connection, archive: Row[Any], lines: list[Line]) -> ArchivedMatch:
    found = open_lines(tx, archive.shop_id, lines)
    return ArchivedMatch(
        [one for one in found if isinstance(one, ArchivedEvent)],
        [one for one in found if isinstance(one, SealedEvent)],
    )


def replay_archived(
    begin: Begin, store: ObjectStore, wanted: EventFilter, **author: Unpack[Author]
) -> ArchivedReplay:
    """Record the readable archived events of ``wanted`` again, in one transaction for each object.

    Bodies are opened under the lock of ``lock_bodies``: a redaction waits, and then finds their copies.
    """
    done = ArchivedReplay([], [], [])
    for archive, lines in _read_lines(begin, store, wanted):
        with begin() as tx:
            lock_bodies(tx, [archive.shop_id], is_shared=True)
            events, sealed = _open_match(tx, archive, lines)
            sets = (events[start : start + SET_SIZE] for start in range(0, len(events), SET_SIZE))
            replayed = record_replays(tx, sets, **author)
        done.sealed.extend(sealed)
        done.event_ids.extend(replayed.event_ids)
        done.work.extend(replayed.work)
    return done


def find_archived_event(
    begin: Begin, store: ObjectStore, event_id: int
) -> ArchivedEvent | SealedEvent | None:
    """Return the archived event, or why it cannot be read; None if it is not archived."""
    for events, sealed in read_archived(begin, store, EventFilter(ids=(event_id,))):
        if events or sealed:
            return events[0] if events else sealed[0]
    return None
