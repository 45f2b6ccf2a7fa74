"""Backfill of calls and messages: records what Quo lists and the ledger lacks, as webhooks do.

The window is read in slices of a day, oldest first. The cursor moves after each slice, so that a later run
with the same or a later start continues there. A start further back, or after the cursor, has a cursor of its
own.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection

from services.conversations.access import find_quo_key, open_quo
from services.conversations.handler import NO_CALL_YET
from services.conversations.pulled_events import (
    make_call_event,
    make_message_event,
    make_part_events,
)
from services.conversations.tables import interactions
from services.core.db import transaction
from services.core.errors import Misconfigured, Refused
from services.core.fields import Unreadable, read_text
from services.core.pg_arrays import find_by_key
from services.ledger.accept import NewEvent, WorkRef, list_missing_events, record_events
from services.ledger.dispatch import send_messages
from services.ledger.sync_cursors import list_cursors, upsert_cursor
from services.providers.delivery import find_instant
from services.providers.openphone import openphone_object_key
from services.providers.quo_api import PROVIDER

if TYPE_CHECKING:
    from services.providers.quo_api import Quo

STREAM = "conversations since "
"""Prefix of the stream of a cursor; the first day that it covers follows."""
SLICE = timedelta(days=1)
OVERLAP = timedelta(hours=2)
"""Time before the cursor that is read again, for calls that had not ended and objects that appear late."""
BATCH_SIZE = 5
_log = logging.getLogger(__name__)

Json = Mapping[str, Any]
Event = dict[str, Any]
Progress = Callable[[str, int, int | None], None]
"""Is called with ``days``, ``calls`` or ``messages``, how many are read, and their number if it is known."""


@dataclass
class BackfillCounts:
    """Calls and messages: ``synced`` lacked something that is recorded now, ``skipped`` lacked nothing,
    ``failed`` cannot be read. ``topics`` counts the recorded events. The lists were read from ``read_from``
    on; ``earlier_until`` is the end of an earlier run that read what is before."""

    synced: int = 0
    skipped: int = 0
    failed: int = 0
    topics: Counter[str] = field(default_factory=Counter)
    read_from: datetime | None = None
    earlier_until: datetime | None = None


def backfill_conversations(
    shop_id: int,
    since: datetime,
    now: datetime,
    request_id: str = "",
    *,
    batch_size: int = BATCH_SIZE,
    is_dry: bool = False,
    is_again: bool = False,
    counts: BackfillCounts | None = None,
    progress: Progress = lambda _name, _done, _total: None,
    pause: Callable[[timedelta], object] = lambda length: time.sleep(length.total_seconds()),
    notify: Callable[[Sequence[WorkRef]], object] = send_messages,
) -> BackfillCounts:
    """Record each call and message created in [``since``, ``now``) that the ledger lacks, with its parts.

    ``batch_size`` objects are recorded in one transaction. Starts at the cursor if an earlier run began as
    far back and the run is not ``is_again``. ``is_dry`` only counts; ``pause`` waits for Quo's rate limit.
    Raises ``Misconfigured`` without a quo-key, and the ``WorkError`` of a call to Quo: the next run continues
    from the cursor.
    """
    counts = counts or BackfillCounts()
    with transaction() as tx:
        key = find_quo_key(tx, shop_id)
        stream, cursor = _find_cursor(tx, shop_id, since)
    starts = since if is_again or cursor is None else max(since, cursor - OVERLAP)
    counts.read_from, counts.earlier_until = starts, cursor if starts > since else None
    if not key:
        raise Misconfigured(
            "quo.no_key", "the shop has no quo-key: `fleet shops secret SHOP quo-key --stdin`"
        )
    quo, slices, read = open_quo(key, pause), list(_plan_slices(starts, now)), Counter[str]()
    for number, (begins, ends) in enumerate(slices):
        progress("days", number, len(slices))
        for kind, listed in (
            ("calls", quo.list_calls(begins, ends)),
            ("messages", quo.list_messages(begins, ends)),
        ):
            while batch := list(islice(listed, batch_size)):
                planned = _plan_batch(shop_id, quo, kind, batch, counts)
                notify(_record(shop_id, planned, now, request_id, counts, is_dry=is_dry))
                read[kind] += len(batch)
                progress(kind, read[kind], None)
        if not is_dry:
            with transaction() as tx:
                upsert_cursor(tx, shop_id, PROVIDER, stream, ends, now)
    progress("days", len(slices), len(slices))
    for kind, number in read.items():
        progress(kind, number, number)
    return counts


def _find_cursor(tx: Connection, shop_id: int, since: datetime) -> tuple[str, datetime | None]:
    """Return the stream that covers ``since`` and its cursor, or a new stream and None."""
    day = since.date().isoformat()
    known = {
        name.removeprefix(STREAM): until
        for name, until in list_cursors(tx, shop_id, PROVIDER, STREAM).items()
    }
    covering = [(until, first) for first, until in known.items() if first <= day and until >= since]
    if not covering:
        return f"{STREAM}{day}", None
    until, first = max(covering)
    return f"{STREAM}{first}", until


def _plan_slices(begins: datetime, ends: datetime) -> Iterator[tuple[datetime, datetime]]:
    while begins < ends:
        yield begins, min(begins + SLICE, ends)
        begins += SLICE


def _plan_batch(
    shop_id: int, quo: "Quo", kind: str, batch: Sequence[Json], counts: BackfillCounts
) -> list[list[Event]]:
    """Return, per object of ``batch`` that can be read, the events of what its row lacks."""
    with transaction() as tx:
        keys = {(shop_id, str(one.get("id", ""))) for one in batch}
        rows = {key[1]: row for key, row in find_by_key(tx, interactions, keys).items()}
    planned: list[list[Event]] = []
    for one in batch:
        try:
            row = rows.get(read_text(one, "id"))
            make = make_call_event if kind == "calls" else make_message_event
            missing = [make(one)] if row is None or row["version_at"] == NO_CALL_YET else []
            if kind == "calls":
                missing += _plan_parts(quo, one, row["detail"] if row else {})
        except (Unreadable, Refused) as fault:
            counts.failed += 1
            _log.warning("an object of the backfill is left out: %s", fault)
        else:
            planned.append(missing)
    return planned


def _plan_parts(quo: "Quo", call: Json, known: Json) -> list[Event]:
    """Return the events of the parts that are not ``known``. A call that nobody answered has no recording."""
    call_id, recordings, transcripts = read_text(call, "id"), [], []
    if call.get("answeredAt") and "recording" not in known:
        recordings = quo.list_recordings(call_id)
    if (recordings or "recording" in known) and "transcript" not in known:
        transcripts = quo.list_transcripts(call_id)
    return [event for name, event in make_part_events(call, recordings, transcripts) if name not in known]


def _record(
    shop_id: int,
    planned: Iterable[Sequence[Event]],
    now: datetime,
    request_id: str,
    counts: BackfillCounts,
    *,
    is_dry: bool,
) -> list[WorkRef]:
    """Record the events that have no row yet, in one transaction; an earlier run may have recorded some."""
    groups = [[_make_new_event(shop_id, event, now, request_id) for event in events] for events in planned]
    with transaction() as tx:
        missing = list_missing_events(tx, [event for events in groups for event in events])
        accepted = record_events(tx, missing) if missing and not is_dry else []
    keys = {event.delivery_key for event in missing}
    synced = sum(any(event.delivery_key in keys for event in events) for events in groups)
    counts.synced += synced
    counts.skipped += len(groups) - synced
    counts.topics.update(event.topic for event in missing)
    return [ref for one in accepted for ref in one.work]


def _make_new_event(shop_id: int, event: Event, now: datetime, request_id: str) -> NewEvent:
    return NewEvent(
        shop_id=shop_id,
        provider=PROVIDER,
        topic=event["type"],
        delivery_key=event["id"],
        body=orjson.dumps(event),
        received_at=now,
        occurred_at=find_instant(event["createdAt"]),
        request_id=request_id,
        origin="backfill",
        key=openphone_object_key(event),
    )
