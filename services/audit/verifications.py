"""What the verifications of each chain found, and what the owner of the tables decided about it.

The deploy gate reads this. The application's role may only insert findings: it cannot change or delete a row,
and only the owner can write that a finding is resolved or that the gate is open for it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from services.core.pg_arrays import arrays

AGAIN = " (again, "
"""How an incident's finding goes on that was found before, and repaired."""

_RECORD = """
insert into public.audit_verifications (shop_id, at, findings)
select nullif(v.shop_id, 0), %(now)s, v.findings
  from unnest(%(shop_id)s::int[], %(findings)s::jsonb[]) as v(shop_id, findings)
 where v.findings <> coalesce(
   (select l.findings from public.audit_verifications l
     where l.shop_id is not distinct from nullif(v.shop_id, 0) order by l.id desc limit 1), '[]')
"""
# With its schema: a role can put a temporary table of the same name into a session of a pooler.
_BROKEN = """
select v.id, v.shop_id, coalesce(s.slug, v.shop_id::text, 'fleet') as shop, v.at, v.findings,
       coalesce(v.findings ->> 0, '') as finding, v.resolved_at, v.open_until, v.decided_by, v.decided_reason
  from public.audit_verifications v left join shops s on s.id = v.shop_id
 where v.findings <> '[]'
   and (v.id = (select max(l.id) from public.audit_verifications l
                 where l.shop_id is not distinct from v.shop_id)
        or not exists (
          select from public.audit_verifications r
           where r.resolved_at is not null and r.shop_id is not distinct from v.shop_id
             and r.findings @> v.findings))
 order by v.shop_id nulls first, v.id desc
"""
_REPAIRED = """
select shop_id from (
  select distinct on (shop_id) shop_id, findings from public.audit_verifications order by shop_id, id desc
) last where findings = '[]'
"""
_IS_OWNER = """
select pg_has_role(current_user, relowner, 'usage') from pg_class
 where oid = 'public.audit_verifications'::regclass
"""
_RESOLVE = """
update public.audit_verifications
   set resolved_at = %(now)s, open_until = null, decided_by = %(by)s, decided_reason = %(reason)s
 where id = any(%(ids)s)
"""
_OPEN = """
update public.audit_verifications
   set open_until = %(until)s, decided_by = %(by)s, decided_reason = %(reason)s
 where id = any(%(ids)s)
"""


def record_verification(tx: Connection, found: Mapping[int | None, Sequence[str]], now: datetime) -> None:
    """Record the findings of each chain, if they differ from those of its last verification."""
    rows = [(shop_id or 0, orjson.dumps(sorted(found[shop_id])).decode()) for shop_id in found]
    if rows:
        tx.exec_driver_sql(_RECORD, {**arrays("shop_id findings", rows), "now": now})


def find_repaired(tx: Connection) -> frozenset[int | None]:
    """Return the chains that had findings, and none in their last verification."""
    return frozenset(tx.exec_driver_sql(_REPAIRED).scalars())


def list_broken(tx: Connection) -> Sequence[Row[Any]]:
    """Return the findings for which chains are broken, by chain, the newest first.

    A finding is one until the owner resolved it and a later verification of its chain did not find it.
    """
    return tx.exec_driver_sql(_BROKEN).all()


def find_chains(tx: Connection, findings: Collection[str]) -> frozenset[int | None]:
    """Return the broken chains whose verifications have one of an incident's ``findings``.

    The application's role can change the incident, not the verification: its own row names the chain.
    """
    return frozenset(
        row.shop_id
        for row in list_broken(tx)
        if any(one == own or one.startswith(own + AGAIN) for own in row.findings for one in findings)
    )


def is_owner(tx: Connection) -> bool:
    """Return whether ``tx`` has the rights of the role that owns the tables."""
    return bool(tx.exec_driver_sql(_IS_OWNER).scalar())


def resolve_chain(tx: Connection, shop_id: int | None, *, by: str, reason: str, now: datetime) -> None:
    """Record that the findings of a chain are resolved: they are ended, once a verification finds none.

    Only the owner of the tables may.
    """
    values = {"ids": _list_ids(tx, shop_id), "now": now, "by": by, "reason": reason}
    tx.exec_driver_sql(_RESOLVE, values)


def open_chain(tx: Connection, shop_id: int | None, until: datetime, *, by: str, reason: str) -> None:
    """Open the gate for the findings of a chain, not for later ones. Only the owner of the tables may."""
    tx.exec_driver_sql(_OPEN, {"ids": _list_ids(tx, shop_id), "until": until, "by": by, "reason": reason})


def _list_ids(tx: Connection, shop_id: int | None) -> list[int]:
    return [row.id for row in list_broken(tx) if row.shop_id == shop_id]
