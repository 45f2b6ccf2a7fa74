"""Personal data in the ledger: raw bodies of events, payloads and error texts of work.

Bodies are searched as bytes: one scan of the shop's own events (by ``uq_inbound_events_delivery``) with one
pattern for all ids, addresses and numbers. Measured: 8 s for 100,000 bodies of 10 KB. The pattern finds too
many; this module parses each and decides.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.privacy.redaction import blank, hide_text, is_about, names_subject
from services.privacy.scan import SET_SIZE, scan_rows
from services.privacy.subject import Holder, Subject

REDACTED_HEADER = "shopfleet-redacted-at"
"""Header of a redacted event: since this time the body is not the signed one."""

# Read with a cursor, so that memory is bounded.
_FIND_EVENTS = """
select id, provider, topic, received_at, origin, body from inbound_events
 where shop_id = %(shop_id)s and encode(body, 'escape') collate "C" ~* %(pattern)s
"""

# A whole shop is redacted in pieces, each committed by itself; the header marks what is done.
_FIND_UNMARKED = """
select id, provider, topic, received_at, origin, body from inbound_events
 where shop_id = %(shop_id)s and not headers ? %(mark)s limit %(piece)s
"""
PIECE = 5000

_BLANK_EVENTS = """
update inbound_events e
   set body = decode(v.body, 'base64'),
       headers = e.headers || jsonb_build_object(%(mark)s::text, %(at)s::text)
  from unnest(%(id)s::bigint[], %(body)s::text[]) as v(id, body) where e.id = v.id
"""

_FIND_WORK = """
select id, topic, created_at, payload, coalesce(last_error, '') as last_error from work_queue
 where shop_id = %(shop_id)s and (payload <> '{}' or last_error is not null)
   and (%(whole_shop)s or encode(convert_to(payload::text || coalesce(last_error, ''), 'UTF8'), 'escape')
        collate "C" ~* %(pattern)s)
"""

_BLANK_WORK = """
update work_queue w set payload = v.payload::jsonb, last_error = nullif(v.last_error, '')
  from unnest(%(id)s::bigint[], %(payload)s::text[], %(last_error)s::text[]) as v(id, payload, last_error)
 where w.id = v.id
"""


class _Event(NamedTuple):
    id: int
    provider: str
    topic: str
    received_at: datetime
    origin: str
    body: bytes

    def read(self) -> Any:
        """Return the parsed body, or its text where it is not JSON."""
        try:
            # Not orjson: a number beyond 64 bits, or half a surrogate pair, must be kept as it is.
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return bytes(self.body).decode("utf-8", "replace")


class _Work(NamedTuple):
    id: int
    topic: str
    created_at: datetime
    payload: Any
    last_error: str


def find_event_rows(tx: Connection, subject: Subject) -> Iterator[Mapping[str, Any]]:
    """Yield the events about the subject, with their whole bodies."""
    for event in _find_events(tx, subject):
        yield {
            "from": event.provider,
            "topic": event.topic,
            "received_at": event.received_at,
            "how": event.origin,
            "told": event.read(),
        }


def redact_events(tx: Connection, subject: Subject, now: datetime) -> Mapping[str, int]:
    """Blank the personal fields of bodies about the subject; a replay still yields the same order.

    A body that is not JSON is replaced as a whole. A header has the time. For a whole shop, at most ``PIECE``
    events per call.
    """
    at = now.astimezone(UTC).isoformat(timespec="seconds")
    count = 0
    events = _find_unmarked(tx, subject) if subject.whole_shop else _find_events(tx, subject)
    while chosen := list(islice(events, SET_SIZE)):
        redacted = [(event, _redacted(event, subject, at)) for event in chosen]
        changed = [
            (event.id, event.body if body is None else body)
            for event, body in redacted
            if body is not None or subject.whole_shop
        ]
        count += _blank_events(tx, changed, at)
    return {"inbound_events": count}


def _redacted(event: _Event, subject: Subject, at: str) -> bytes | None:
    """Return the redacted body; None where nothing changed, as after an earlier redaction."""
    body = event.read()
    if not isinstance(body, dict | list):
        return json.dumps({"redacted": f"a body that could not be read was removed at {at}"}).encode()
    redacted = blank(body, subject, topic=event.topic, conversation=event.provider == "openphone")
    return None if redacted == body else json.dumps(redacted, separators=(",", ":")).encode()


def _find_events(tx: Connection, subject: Subject) -> Iterator[_Event]:
    for row in scan_rows(tx, _FIND_EVENTS, subject, with_ids=True):
        event = _Event(**row._mapping)
        if is_about(event.read(), subject, event.topic):
            yield event


def _find_unmarked(tx: Connection, subject: Subject) -> Iterator[_Event]:
    values = {"shop_id": subject.shop_id, "mark": REDACTED_HEADER, "piece": PIECE}
    options = {"stream_results": True, "max_row_buffer": SET_SIZE}
    for row in tx.exec_driver_sql(_FIND_UNMARKED, values, execution_options=options):
        yield _Event(**row._mapping)


def _blank_events(tx: Connection, changed: Sequence[tuple[int, bytes]], at: str) -> int:
    if not changed:
        return 0
    values = {
        "mark": REDACTED_HEADER,
        "at": at,
        "id": int_array(event_id for event_id, _ in changed),
        "body": text_array([b64encode(bytes(body)).decode() for _, body in changed]),
    }
    return tx.exec_driver_sql(_BLANK_EVENTS, values).rowcount


def find_work_rows(tx: Connection, subject: Subject) -> Iterator[Mapping[str, Any]]:
    """Yield the work whose payload or error names the subject."""
    for work in _find_work(tx, subject):
        yield {
            "work": work.topic,
            "planned_at": work.created_at,
            "payload": work.payload,
            "error": work.last_error,
        }


def redact_work(tx: Connection, subject: Subject, now: datetime) -> Mapping[str, int]:
    """Blank payloads and error texts that name the subject; for a whole shop, remove all error texts."""
    del now
    count = 0
    found = _find_work(tx, subject)
    while chosen := list(islice(found, SET_SIZE)):
        redacted = [(work, blank(work.payload, subject), redacted_error(work, subject)) for work in chosen]
        count += _blank_work(
            tx,
            [
                (w.id, kept, error)
                for w, kept, error in redacted
                if (kept, error) != (w.payload, w.last_error)
            ],
        )
    return {"work_queue": count}


def redacted_error(work: _Work, subject: Subject) -> str:
    return "" if subject.whole_shop else hide_text(work.last_error, subject)


def _blank_work(tx: Connection, changed: Sequence[tuple[int, Any, str]]) -> int:
    if not changed:
        return 0
    values = {
        "id": int_array(work_id for work_id, _, _ in changed),
        "payload": text_array([json.dumps(payload) for _, payload, _ in changed]),
        "last_error": text_array([error for _, _, error in changed]),
    }
    return tx.exec_driver_sql(_BLANK_WORK, values).rowcount


def _find_work(tx: Connection, subject: Subject) -> Iterator[_Work]:
    for row in scan_rows(tx, _FIND_WORK, subject, with_ids=False):
        work = _Work(**row._mapping)
        text = json.dumps(work.payload, ensure_ascii=False) + work.last_error
        if subject.whole_shop or names_subject(text, subject):
            yield work


EVENTS = Holder(
    name="what Shopify, Stripe and Quo told",
    tables=("inbound_events",),
    find=find_event_rows,
    redact=redact_events,
    knows_subject=True,
)
WORK = Holder(
    name="work that was planned for it",
    tables=("work_queue",),
    find=find_work_rows,
    redact=redact_work,
)
