"""Personal data in calls and messages: participants and content."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import text_array
from services.privacy.redaction import HIDDEN, blank, names_subject
from services.privacy.scan import SET_SIZE, scan_rows
from services.privacy.subject import Holder, Subject

_FIND = """
select provider_id, kind, direction, participants, body, detail, occurred_at from interactions
 where shop_id = %(shop_id)s
   and (%(whole_shop)s or encode(convert_to(participants::text || body || detail::text, 'UTF8'), 'escape')
        collate "C" ~* %(pattern)s)
 order by occurred_at, provider_id
"""

_BLANK = """
update interactions i set participants = v.participants::jsonb, body = '', detail = v.detail::jsonb
  from unnest(%(provider_id)s::text[], %(participants)s::text[], %(detail)s::text[])
       as v(provider_id, participants, detail)
 where i.shop_id = %(shop_id)s and i.provider_id = v.provider_id
"""


class _Interaction(NamedTuple):
    provider_id: str
    kind: str
    direction: str
    participants: Any
    body: str
    detail: Any
    occurred_at: datetime


def find_interaction_rows(tx: Connection, subject: Subject) -> Iterator[Mapping[str, Any]]:
    """Yield the calls and messages with the subject, oldest first."""
    for row in _find(tx, subject):
        yield {
            "kind": row.kind,
            "direction": row.direction,
            "at": row.occurred_at,
            "between": row.participants,
            "said": row.body,
            "detail": row.detail,
        }


def redact_interactions(tx: Connection, subject: Subject, now: datetime) -> Mapping[str, int]:
    """Remove participants and content; the call or message stays, with its times."""
    del now
    count = 0
    found = _find(tx, subject)
    while chosen := list(islice(found, SET_SIZE)):
        changed = [kept for row in chosen if (kept := _redacted(row, subject)) != row]
        if changed:
            values = {
                "shop_id": subject.shop_id,
                "provider_id": text_array([kept.provider_id for kept in changed]),
                "participants": text_array([json.dumps(kept.participants) for kept in changed]),
                "detail": text_array([json.dumps(kept.detail) for kept in changed]),
            }
            count += tx.exec_driver_sql(_BLANK, values).rowcount
    return {"interactions": count}


def _redacted(row: _Interaction, subject: Subject) -> _Interaction:
    detail = blank(row.detail, subject, conversation=True)
    return row._replace(participants=[HIDDEN] * len(row.participants), body="", detail=detail)


def _find(tx: Connection, subject: Subject) -> Iterator[_Interaction]:
    for found in scan_rows(tx, _FIND, subject, with_ids=False):
        row = _Interaction(**found._mapping)
        if subject.whole_shop or names_subject(_text(row), subject):
            yield row


def _text(row: _Interaction) -> str:
    return json.dumps([row.participants, row.body, row.detail], ensure_ascii=False)


INTERACTIONS = Holder(
    name="calls and messages",
    tables=("interactions",),
    find=find_interaction_rows,
    redact=redact_interactions,
)
