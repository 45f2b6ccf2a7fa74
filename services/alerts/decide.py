"""What a person reads and decides about incidents: list, show, resolve with a reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.audit.append import Mutation, append_audit
from services.core.errors import ShopfleetError

_COLUMNS = (
    "id, severity, status, shop_id, rule, period, opened_at, updated_at, summary, detail, "
    "resolved_at, resolved_by, resolved_reason"
)

_LIST = f"""
select {_COLUMNS} from incidents
 where (%(is_all)s or status = 'open') and (%(shop_id)s::int is null or shop_id = %(shop_id)s)
   and (%(rule)s = '' or rule = %(rule)s or split_part(rule, ':', 1) = %(rule)s)
 order by status, severity, id desc limit %(limit)s
"""  # noqa: S608 - no value of a user's is in it

_GET = f"select {_COLUMNS} from incidents where id = %(id)s"  # noqa: S608 - the same

_RESOLVE = """
update incidents set status = 'resolved', resolved_at = %(now)s, updated_at = %(now)s,
       resolved_by = %(by)s, resolved_reason = %(reason)s
 where id = %(id)s
"""


class IncidentInvalid(ShopfleetError):
    """There is no such incident, or the decision lacks its reason."""


class IncidentResolved(ShopfleetError):
    """The incident is resolved already."""


@dataclass(frozen=True, slots=True)
class IncidentLine:
    """A row of ``incidents``. ``resolved_by`` is None while it is open, and where its rule resolved it."""

    id: int
    severity: str
    status: str
    shop_id: int | None
    rule: str
    period: str
    opened_at: datetime
    updated_at: datetime
    summary: str
    detail: Mapping[str, Any]
    resolved_at: datetime | None
    resolved_by: str | None
    resolved_reason: str | None


def find_incidents(
    tx: Connection, *, shop_id: int | None = None, rule: str = "", is_all: bool = False, limit: int = 50
) -> Sequence[IncidentLine]:
    """Return open incidents, the gravest first and the newest of equals; ``is_all`` adds resolved ones.

    ``rule`` is a whole rule (``cron_did_not_run:monthly-close``) or the part before its colon.
    """
    values = {"shop_id": shop_id, "rule": rule, "is_all": is_all, "limit": limit}
    return [IncidentLine(*row) for row in tx.exec_driver_sql(_LIST, values)]


def get_incident(tx: Connection, incident_id: int, *, for_update: bool = False) -> IncidentLine:
    """Return one incident, locked where ``for_update``; raise ``IncidentInvalid`` for an unknown id."""
    query = _GET + " for update" if for_update else _GET
    row = tx.exec_driver_sql(query, {"id": incident_id}).first()
    if row is None:
        raise IncidentInvalid(f"no incident has the id {incident_id}: `fleet incidents list --all` lists all")
    return IncidentLine(*row)


def resolve_by_person(
    tx: Connection, incident_id: int, *, now: datetime, by: str, reason: str, request_id: str
) -> IncidentLine:
    """The incident is resolved with who and why, and its shop's audit chain has both; return it as it was.

    The same cause does not open it again: see ``record_incidents``. Raise ``IncidentInvalid`` or
    ``IncidentResolved``.
    """
    if not reason.strip():
        raise IncidentInvalid("reason is empty: it should say why this incident needs no more work")
    found = get_incident(tx, incident_id, for_update=True)
    if found.status != "open":
        raise IncidentResolved(f"incident {incident_id} is resolved already: nothing was changed")
    values = {"id": incident_id, "now": now, "by": by, "reason": reason.strip()}
    tx.exec_driver_sql(_RESOLVE, values)
    summary = f"resolved incident {found.rule} for {found.period}: {reason.strip()}"
    before = {"status": "open", "summary": found.summary}
    after = {"status": "resolved", "reason": reason.strip(), "by": by}
    append_audit(
        tx,
        shop_id=found.shop_id,
        staff_label=by,
        action="incident.resolve",
        request_id=request_id,
        now=now,
        mutations=[Mutation("incidents", str(incident_id), summary, before, after)],
    )
    return found
