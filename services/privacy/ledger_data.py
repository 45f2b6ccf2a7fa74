"""The people in what providers sent, and in what became of it: raw bodies, payloads, error texts.

An event is found by what its bytes hold, as a body is no column: one scan of the shop's own events, found by
``uq_inbound_events_delivery``, with one pattern for all ids, addresses and numbers at once. Measured: 8 s for
100,000 bodies of 10 KB. What that finds too much is told apart here.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.privacy.holders import Holder, Subject, register_holder
from services.privacy.redaction import blank, hide_text, is_about, names_subject
from services.privacy.scan import SET_SIZE, scan_rows

REDACTED_HEADER = "shopfleet-redacted-at"
"""Among an event's headers: since then its body is not what was signed."""

# A cursor, so that memory is bounded whatever a shop has kept; the update reads nothing that it finds later.
_FIND_EVENTS = """
select id, provider, topic, received_at, origin, body from inbound_events
 where shop_id = %(shop_id)s and encode(body, 'escape') collate "C" ~* %(pattern)s
"""

# A whole shop goes piece by piece, each committed by itself; the mark says how far it is.
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
select id, topic, created_at, payload, coalesce(last_error, '') from work_queue
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
        """Return the body as JSON, or as text where it is none."""
        try:
            # Not the fast parser: a number beyond 64 bits, or half a surrogate pair, must come out as it was.
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
    """Yield what providers told of the subject, bodies whole."""
    for event in _find_events(tx, subject):
        yield {
            "from": event.provider,
            "topic": event.topic,
            "received_at": event.received_at,
            "how": event.origin,
            "told": event.read(),
        }


def redact_events(tx: Connection, subject: Subject, now: datetime) -> Mapping[str, int]:
    """No body tells of the subject: personal fields are blank, and all else is as it was, so that a replay
    yields the same order. A body that is no JSON is replaced whole. Headers say when that was.

    Of a whole shop at most ``PIECE`` events, until none is left.
    """
    at = now.astimezone(UTC).isoformat(timespec="seconds")
    count = 0
    events = _find_unmarked(tx, subject) if subject.whole_shop else _find_events(tx, subject)
    while chosen := list(islice(events, SET_SIZE)):
        left = [(event, _redacted(event, subject, at)) for event in chosen]
        changed = [
            (event.id, event.body if body is None else body)
            for event, body in left
            if body is not None or subject.whole_shop
        ]
        count += _blank_events(tx, changed, at)
    return {"inbound_events": count}


def _redacted(event: _Event, subject: Subject, at: str) -> bytes | None:
    """Return the body without the person; None where there was none in it, as after an earlier redaction."""
    told = event.read()
    if not isinstance(told, dict | list):
        return json.dumps({"redacted": f"a body that could not be read was removed at {at}"}).encode()
    left = blank(told, subject, topic=event.topic, conversation=event.provider == "openphone")
    return None if left == told else json.dumps(left, separators=(",", ":")).encode()


def _find_events(tx: Connection, subject: Subject) -> Iterator[_Event]:
    for row in scan_rows(tx, _FIND_EVENTS, subject, with_ids=True):
        event = _Event(*row)
        if is_about(event.read(), subject, event.topic):
            yield event


def _find_unmarked(tx: Connection, subject: Subject) -> Iterator[_Event]:
    values = {"shop_id": subject.shop_id, "mark": REDACTED_HEADER, "piece": PIECE}
    options = {"stream_results": True, "max_row_buffer": SET_SIZE}
    for row in tx.exec_driver_sql(_FIND_UNMARKED, values, execution_options=options):
        yield _Event(*tuple(row))


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
    """No payload and no error text names the subject; of a whole shop, error texts are gone."""
    del now
    count = 0
    found = _find_work(tx, subject)
    while chosen := list(islice(found, SET_SIZE)):
        left = [(work, blank(work.payload, subject), _left_error(work, subject)) for work in chosen]
        count += _blank_work(
            tx, [(w.id, kept, error) for w, kept, error in left if (kept, error) != (w.payload, w.last_error)]
        )
    return {"work_queue": count}


def _left_error(work: _Work, subject: Subject) -> str:
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
        work = _Work(*row)
        text = json.dumps(work.payload, ensure_ascii=False) + work.last_error
        if subject.whole_shop or names_subject(text, subject):
            yield work


register_holder(
    Holder(
        name="what Shopify, Stripe and Quo told",
        tables=("inbound_events",),
        find=find_event_rows,
        redact=redact_events,
        knows_subject=True,
    )
)
register_holder(
    Holder(
        name="work that was planned for it",
        tables=("work_queue",),
        find=find_work_rows,
        redact=redact_work,
    )
)
