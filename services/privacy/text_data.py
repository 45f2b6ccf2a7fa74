"""Personal data in texts: bodies of events, payloads and errors of work, calls and messages.

Texts are searched as bytes, with one pattern for all ids, addresses and numbers: a shop's events are one scan
by ``uq_inbound_events_delivery``. Measured: 8 s for 100,000 bodies of 10 KB. The pattern finds too many rows:
each is parsed and checked.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, update

from services.conversations.tables import interactions
from services.conversations.vectors import delete_vectors
from services.ledger.tables import inbound_events, work_queue
from services.ledger.topics import plan_topic
from services.privacy.body_redaction import (
    HIDDEN,
    blank_personal_fields,
    concerns_subject,
    contains_subject,
    hide_text,
)
from services.privacy.search_pattern import search_pattern
from services.privacy.subject import DataSubject, PersonalDataRows, PersonalDataSource
from services.providers.registry import find_provider

SET_SIZE = 200
"""Rows in memory at a time: one can have 5 MiB."""

PIECE = 5000
"""Events that are redacted in one transaction of a whole shop."""

REDACTED_HEADER = "shopfleet-redacted-at"
"""Header of a redacted event, with the time since when the body is not the signed one."""

_FIND_EVENTS = """
select id, provider, topic, received_at, origin, body, headers from inbound_events
 where shop_id = %(shop_id)s and encode(body, 'escape') collate "C" ~* %(pattern)s
"""

# A whole shop is redacted in pieces, each in its own transaction; the header marks redacted events.
_FIND_UNMARKED = """
select id, provider, topic, received_at, origin, body, headers from inbound_events
 where shop_id = %(shop_id)s and not headers ? %(mark)s limit %(piece)s
"""

_FIND_WORK = """
select id, topic, created_at, payload, coalesce(last_error, '') as last_error from work_queue
 where shop_id = %(shop_id)s and (payload <> '{}' or last_error is not null)
   and (%(whole_shop)s or encode(convert_to(payload::text || coalesce(last_error, ''), 'UTF8'), 'escape')
        collate "C" ~* %(pattern)s)
"""

_FIND_INTERACTIONS = """
select shop_id, provider_id, kind, direction, participants, body, detail, occurred_at from interactions
 where shop_id = %(shop_id)s
   and (%(whole_shop)s or encode(convert_to(participants::text || body || detail::text, 'UTF8'), 'escape')
        collate "C" ~* %(pattern)s)
 order by occurred_at, provider_id
"""


def scan_rows(
    tx: Connection, statement: str, subject: DataSubject, *, with_ids: bool = False
) -> Iterator[Row[Any]]:
    """Yield the rows that ``statement`` finds about the subject; for a whole shop, all of them.

    The statement searches ``encode(bytes, 'escape')`` for ``pattern`` and may find too many rows. It is read
    with a cursor, so that memory is bounded.
    """
    pattern = search_pattern(subject, with_ids=with_ids)
    if not pattern and not subject.whole_shop:
        return
    values = {
        "shop_id": subject.shop_id,
        "whole_shop": subject.whole_shop,
        "pattern": pattern,
        "mark": REDACTED_HEADER,
        "piece": PIECE,
    }
    options = {"stream_results": True, "max_row_buffer": SET_SIZE}
    yield from tx.exec_driver_sql(statement, values, execution_options=options)


def update_rows(
    tx: Connection, table: Table, rows: Iterator[Row[Any]], redact: Callable[[Row[Any]], Mapping[str, Any]]
) -> int:
    """Set the columns that ``redact`` returns for each row, if any; return how many rows changed."""
    key = table.primary_key.columns
    statement = update(table).where(*[column == bindparam(f"key_{column.name}") for column in key])
    count = 0
    while chosen := list(islice(rows, SET_SIZE)):
        changes = [
            {**changed, **{f"key_{column.name}": getattr(row, column.name) for column in key}}
            for row in chosen
            if (changed := redact(row))
        ]
        if changes:
            count += tx.execute(statement, changes).rowcount
    return count


def find_event_rows(tx: Connection, subject: DataSubject) -> PersonalDataRows:
    """Yield the events about the subject, with their whole bodies."""
    for event in _find_events(tx, subject):
        yield describe_event(event)


def describe_event(event: Any) -> dict[str, Any]:
    """Return the fields of an event, also of an archived one, for the customer who reads the export."""
    return {
        "from": event.provider,
        "topic": event.topic,
        "received_at": event.received_at,
        "origin": event.origin,
        "body": parse_body(event.body),
    }


def redact_events(tx: Connection, subject: DataSubject, now: datetime) -> Mapping[str, int]:
    """Blank the personal fields of bodies about the subject; a replay still yields the same order.

    A body that is not JSON is replaced as a whole. A header has the time. For a whole shop, redacts at most
    ``PIECE`` events per call.
    """
    at = now.astimezone(UTC).isoformat(timespec="seconds")

    def redact(event: Row[Any]) -> Mapping[str, Any]:
        body = redact_body(event, subject, at)
        if body is None and not subject.whole_shop:
            return {}
        return {
            "body": bytes(event.body) if body is None else body,
            "headers": {**event.headers, REDACTED_HEADER: at},
        }

    found = scan_rows(tx, _FIND_UNMARKED, subject) if subject.whole_shop else _find_events(tx, subject)
    return {"inbound_events": update_rows(tx, inbound_events, found, redact)}


def _find_events(tx: Connection, subject: DataSubject) -> Iterator[Row[Any]]:
    for event in scan_rows(tx, _FIND_EVENTS, subject, with_ids=True):
        if concerns_subject(parse_body(event.body), subject, event.topic):
            yield event


def parse_body(body: bytes) -> Any:
    """Return the parsed body, or its text if it is not JSON."""
    try:
        # Not orjson: a number beyond 64 bits, or half a surrogate pair, must be kept as it is.
        return json.loads(body)
    except (ValueError, RecursionError):
        return bytes(body).decode("utf-8", "replace")


def _has_conversations(name: str, topic: str) -> bool:
    """Whether the bodies are calls, messages or mails, whose content a redaction removes."""
    provider, work = find_provider(name), plan_topic(name, topic)
    return (provider is not None and provider.has_conversations) or (
        work is not None and work.name == "mail_ingest"
    )


def redact_body(event: Any, subject: DataSubject, at: str) -> bytes | None:
    """Return the redacted body; None if nothing changed, for example after an earlier redaction."""
    body = parse_body(event.body)
    if not isinstance(body, dict | list):
        return json.dumps({"redacted": f"a body that could not be read was removed at {at}"}).encode()
    redacted = blank_personal_fields(
        body, subject, topic=event.topic, conversation=_has_conversations(event.provider, event.topic)
    )
    return None if redacted == body else json.dumps(redacted, separators=(",", ":")).encode()


def find_work_rows(tx: Connection, subject: DataSubject) -> PersonalDataRows:
    """Yield the work whose payload or error names the subject."""
    for work in _find_work(tx, subject):
        yield {
            "work": work.topic,
            "planned_at": work.created_at,
            "payload": work.payload,
            "error": work.last_error,
        }


def redact_work(tx: Connection, subject: DataSubject, _now: datetime) -> Mapping[str, int]:
    """Blank payloads and error texts that name the subject; for a whole shop, remove all error texts."""

    def redact(work: Row[Any]) -> Mapping[str, Any]:
        payload = blank_personal_fields(work.payload, subject)
        error = "" if subject.whole_shop else hide_text(work.last_error, subject)
        if (payload, error) == (work.payload, work.last_error):
            return {}
        return {"payload": payload, "last_error": error or None}

    return {"work_queue": update_rows(tx, work_queue, _find_work(tx, subject), redact)}


def _find_work(tx: Connection, subject: DataSubject) -> Iterator[Row[Any]]:
    for work in scan_rows(tx, _FIND_WORK, subject):
        if has_subject(subject, work.payload, work.last_error):
            yield work


def has_subject(subject: DataSubject, *values: Any) -> bool:
    """Whether one of the texts or JSON ``values`` names the subject; always true for a whole shop."""
    texts = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in values]
    return subject.whole_shop or contains_subject("\n".join(texts), subject)


def find_interaction_rows(tx: Connection, subject: DataSubject) -> PersonalDataRows:
    """Yield the calls and messages with the subject, oldest first."""
    for row in _find_interactions(tx, subject):
        yield {
            "kind": row.kind,
            "direction": row.direction,
            "at": row.occurred_at,
            "between": row.participants,
            "text": row.body,
            "detail": row.detail,
        }


def redact_interactions(tx: Connection, subject: DataSubject, _now: datetime) -> Mapping[str, int]:
    """Remove participants and content; the call or message stays, with its times."""

    def redact(row: Row[Any]) -> Mapping[str, Any]:
        delete_vectors(tx, [(row.shop_id, row.provider_id)])
        changed = {
            "participants": [HIDDEN] * len(row.participants),
            "body": "",
            "detail": blank_personal_fields(row.detail, subject, conversation=True),
        }
        return {} if changed.items() <= row._mapping.items() else changed

    found = _find_interactions(tx, subject)
    return {"interactions": update_rows(tx, interactions, found, redact)}


def _find_interactions(tx: Connection, subject: DataSubject) -> Iterator[Row[Any]]:
    for row in scan_rows(tx, _FIND_INTERACTIONS, subject):
        if has_subject(subject, row.participants, row.body, row.detail):
            yield row


EVENTS = PersonalDataSource(
    name="events from Shopify, Stripe and Quo",
    tables=("inbound_events",),
    find=find_event_rows,
    redact=redact_events,
    knows_subject=True,
)
WORK = PersonalDataSource(
    name="planned work", tables=("work_queue",), find=find_work_rows, redact=redact_work
)
INTERACTIONS = PersonalDataSource(
    name="calls and messages",
    tables=("interactions", "interaction_vectors"),
    find=find_interaction_rows,
    redact=redact_interactions,
)
