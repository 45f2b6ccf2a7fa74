"""Interactions: a set of Quo (OpenPhone) events becomes calls and messages, one row each."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import orjson
from sqlalchemy import Connection

from services.audit.chain import Entry
from services.conversations.audit_text import say_told
from services.conversations.merge import Interaction, is_repeat, merge_told
from services.conversations.payload import Told, read_told
from services.core.errors import Refused
from services.core.fields import read_set
from services.core.locks import lock_objects
from services.core.pg_arrays import instant_array, int_array, text_array
from services.ledger.describe import audit_entry
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem

InteractionKey = tuple[int, str]
"""(shop, Quo's id)."""

_FIND = """
select i.shop_id, i.provider_id, i.kind, i.direction, i.status, i.participants, i.body, i.detail,
       i.occurred_at, i.version_at, i.event_id
  from unnest(%(shop_id)s::int[], %(provider_id)s::text[]) as v(shop_id, provider_id)
  join interactions i on i.shop_id = v.shop_id and i.provider_id = v.provider_id
"""

_UPSERT = """
insert into interactions (shop_id, provider_id, kind, direction, status, participants, body, detail,
                          occurred_at, version_at, event_id)
select shop_id, provider_id, kind, direction, status, participants::jsonb, body, detail::jsonb,
       occurred_at, version_at, event_id
  from unnest(%(shop_id)s::int[], %(provider_id)s::text[], %(kind)s::text[], %(direction)s::text[],
              %(status)s::text[], %(participants)s::text[], %(body)s::text[], %(detail)s::text[],
              %(occurred_at)s::timestamptz[], %(version_at)s::timestamptz[], %(event_id)s::bigint[])
       as v(shop_id, provider_id, kind, direction, status, participants, body, detail, occurred_at,
            version_at, event_id)
on conflict (shop_id, provider_id) do update set
   kind = excluded.kind, direction = excluded.direction, status = excluded.status,
   participants = excluded.participants, body = excluded.body, detail = excluded.detail,
   occurred_at = excluded.occurred_at, version_at = excluded.version_at, event_id = excluded.event_id
"""


def ingest_interactions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every call and message is one row that holds the newest word on it and on each of its parts.

    A summary or a transcript may come before its call, and a late event changes nothing and is
    ``stale``. A body that lacks what we need is refused alone.
    """
    del now
    read = read_set(items, read_told, "quo.unreadable_event")
    keys = {(told.shop_id, told.provider_id) for told in read if isinstance(told, Told)}
    lock_objects(tx, keys)
    rows = _find_rows(tx, keys)
    changed: dict[InteractionKey, Interaction] = {}

    audit: list[Entry] = []

    def settle(item: WorkItem, told: Told | Refused) -> Outcome:
        if isinstance(told, Refused):
            return told
        key = (told.shop_id, told.provider_id)
        known = rows.get(key)
        merged = merge_told(known, told)
        if merged is None:
            return Done() if known is not None and is_repeat(known, told) else Done("stale")
        audit.append(audit_entry(item, [say_told(told, known, merged)]))
        rows[key] = changed[key] = merged
        return Done()

    outcomes = [settle(item, told) for item, told in zip(items, read, strict=True)]
    _record_rows(tx, changed)
    return HandlerResult(outcomes, audit=audit)


def _find_rows(tx: Connection, keys: Collection[InteractionKey]) -> dict[InteractionKey, Interaction]:
    if not keys:
        return {}
    arrays = {"shop_id": int_array(s for s, _ in keys), "provider_id": text_array([i for _, i in keys])}
    return {
        (r[0], r[1]): Interaction(r[2], r[3], r[4], tuple(r[5]), r[6], r[7], r[8], r[9], r[10])
        for r in tx.exec_driver_sql(_FIND, arrays)
    }


def _record_rows(tx: Connection, changed: Mapping[InteractionKey, Interaction]) -> None:
    if not changed:
        return
    rows = list(changed.values())
    tx.exec_driver_sql(
        _UPSERT,
        {
            "shop_id": int_array(shop_id for shop_id, _ in changed),
            "provider_id": text_array([provider_id for _, provider_id in changed]),
            "kind": text_array([row.kind for row in rows]),
            "direction": text_array([row.direction for row in rows]),
            "status": text_array([row.status for row in rows]),
            "participants": text_array([orjson.dumps(row.participants).decode() for row in rows]),
            "body": text_array([row.body for row in rows]),
            "detail": text_array([orjson.dumps(row.detail).decode() for row in rows]),
            "occurred_at": instant_array(row.occurred_at for row in rows),
            "version_at": instant_array(row.version_at for row in rows),
            "event_id": int_array(row.event_id for row in rows),
        },
    )
