"""Replay of archived events: records them again from the archive store, as long as their keys exist."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from services.audit.store import ObjectStore
from services.ledger.accept import WorkRef
from services.ledger.event_archive import (
    ArchivedEvent,
    Begin,
    SealedEvent,
    is_wanted,
    list_archives,
    open_lines,
    read_object,
)  # fmt: skip
from services.ledger.filters import EventFilter
from services.ledger.replay import SET_SIZE, record_replays


class ArchivedMatch(NamedTuple):
    """The archived events of one object that match, and those that match and cannot be read."""

    events: list[ArchivedEvent]
    sealed: list[SealedEvent]


class ArchivedReplay(NamedTuple):
    """The ids of the new events, and the work to notify workers of."""

    event_ids: list[int]
    work: list[WorkRef]


def read_archived(begin: Begin, store: ObjectStore, wanted: EventFilter) -> Iterator[ArchivedMatch]:
    """Yield the archived events of ``wanted``, oldest first, object by object.

    Without ids earlier replays are left out. Raises ``ArchiveBroken`` for an altered object.
    """
    with begin() as tx:
        archives = list_archives(tx, wanted)
    for archive in archives:
        lines = [
            line
            for line in read_object(store, archive)
            if is_wanted(line, wanted) and (wanted.ids or line["origin"] != "replay")
        ]
        found = [*open_lines(begin, archive.shop_id, lines)]
        yield ArchivedMatch(
            [one for one in found if isinstance(one, ArchivedEvent)],
            [one for one in found if isinstance(one, SealedEvent)],
        )


def replay_archived(
    begin: Begin,
    store: ObjectStore,
    wanted: EventFilter,
    *,
    now: datetime,
    by: str,
    reason: str = "",
    request_id: str = "",
) -> ArchivedReplay:
    """Record the readable archived events of ``wanted`` again, in one transaction for each object."""
    done = ArchivedReplay([], [])
    for events, _ in read_archived(begin, store, wanted):
        sets = (events[start : start + SET_SIZE] for start in range(0, len(events), SET_SIZE))
        with begin() as tx:
            replayed = record_replays(tx, sets, now=now, by=by, reason=reason, request_id=request_id)
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
