"""Appending to the audit chain, in the same transaction as the change it proves."""

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select, text

from services.audit.chain import FIRST_PREV_HASH, AuditEvent, Mutation, hash_event, mutation_document
from services.audit.tables import audit_events

__all__ = ["Mutation", "append_audit"]

_LOCK_SPACE = 0x41554454  # "AUDT": keeps the chains' advisory locks apart from anybody else's
_FLEET_LOCK = 0  # shop ids begin at 1

_INSERT_MUTATIONS = text(
    """
    insert into audit_mutations (event_id, table_name, row_id, summary, before, after)
    select :event_id, m->>'table_name', m->>'row_id', m->>'summary',
           nullif(m->'before', 'null'), nullif(m->'after', 'null')
      from jsonb_array_elements(cast(:mutations as jsonb)) with ordinality as t(m, n)
     order by n
    """
)


def append_audit(
    tx: Connection,
    *,
    shop_id: int | None,
    staff_label: str,
    action: str,
    request_id: str,
    now: datetime,
    mutations: Sequence[Mutation],
) -> int:
    """Append one event to the chain of ``shop_id`` (None: the fleet's own) and return its id.

    The chain is locked until the transaction ends, so its order is the order of commits. A caller that
    appends to several chains goes by ascending ``shop_id`` (None first), or two callers could wait
    for each other. ``seq`` counts from 1 without a gap: a rolled-back change leaves none.
    """
    lock = _FLEET_LOCK if shop_id is None else shop_id
    tx.execute(text("select pg_advisory_xact_lock(:space, :lock)"), {"space": _LOCK_SPACE, "lock": lock})
    head = tx.execute(
        select(audit_events.c.seq, audit_events.c.hash)
        .where(audit_events.c.shop_id == shop_id)
        .order_by(audit_events.c.seq.desc())
        .limit(1)
    ).one_or_none()
    seq, prev_hash = (head.seq + 1, head.hash) if head else (1, FIRST_PREV_HASH)
    event = AuditEvent(
        shop_id=shop_id,
        seq=seq,
        at=now,
        staff_label=staff_label,
        action=action,
        request_id=request_id,
        mutations=mutations,
    )
    event_id: int = tx.execute(
        insert(audit_events)
        .values(
            shop_id=shop_id,
            seq=seq,
            at=now,
            staff_label=staff_label,
            action=action,
            request_id=request_id,
            prev_hash=prev_hash,
            hash=hash_event(prev_hash, event),
        )
        .returning(audit_events.c.id)
    ).scalar_one()
    documents = json.dumps([mutation_document(mutation) for mutation in mutations])
    tx.execute(_INSERT_MUTATIONS, {"event_id": event_id, "mutations": documents})
    return event_id
