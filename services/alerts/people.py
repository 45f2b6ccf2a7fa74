"""What people do with an incident: take it, write a note, silence it, resolve it. All of it is audited."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack

from sqlalchemy import Connection, Row, select

from services.alerts.incidents import get_incident, list_open_incidents
from services.alerts.recorded_rules import AUDIT_FAILED
from services.alerts.tables import incident_entries, incidents
from services.audit.append import Author, Mutation, append_change
from services.audit.verifications import find_chains, is_owner, list_broken, resolve_chain
from services.core.counts import format_count
from services.core.errors import InputInvalid, NothingToDo, ShopfleetError
from services.core.fields import LONGEST_TEXT
from services.core.times import format_time

LONGEST_SNOOZE_OF_P1 = timedelta(hours=24)


def acknowledge(tx: Connection, incident_id: int, **author: Unpack[Author]) -> Row[Any]:
    """Record that a person works on the incident; a P1 is not repeated any more. Return the row before.

    Another person takes it over; for the person who holds it nothing changes. Like all of these it raises
    ``InputInvalid`` for an unknown id or a text that is missing, and ``ShopfleetError`` for an incident that
    is resolved already.
    """
    change = {"acknowledged_at": author["now"], "acknowledged_by": author["by"]}
    found = get_incident(tx, incident_id, for_update=True)
    holder = found.acknowledged_by
    if found.status == "open" and holder == author["by"]:
        return found
    text = f"taken over from {holder}" if holder else ""
    return _act(tx, incident_id, "acknowledge", change, text, **author)


def release_incidents(tx: Connection, holder: str, why: str, **author: Unpack[Author]) -> list[int]:
    """Take the open incidents of ``holder`` from that person; return their ids.

    A P1 among them is sent again every 30 minutes until another person acknowledges it.
    """
    held = select(incidents.c.id).where(incidents.c.status == "open", incidents.c.acknowledged_by == holder)
    ids = list(tx.execute(held.order_by(incidents.c.id)).scalars())
    for incident_id in ids:
        change = {"acknowledged_at": None, "acknowledged_by": None}
        _act(tx, incident_id, "release", change, why, **author)
    return ids


def add_note(tx: Connection, incident_id: int, note: str, **author: Unpack[Author]) -> Row[Any]:
    """Add ``note`` to the timeline, also of a resolved incident; return the row before."""
    text = require_text(note, "text", "it should say what was seen or done")
    return _act(tx, incident_id, "note", {}, text, **author)


def snooze(tx: Connection, incident_id: int, until: datetime, **author: Unpack[Author]) -> Row[Any]:
    """Tell nobody about the incident before ``until``; return the row before.

    Raises ``InputInvalid`` for a P1 and a time beyond ``LONGEST_SNOOZE_OF_P1``.
    """
    why = require_text(author.get("reason", ""), "reason", "it should say why nobody needs to hear of it")
    if until <= author["now"]:
        raise InputInvalid(f"until={format_time(until)} should be in the future")
    latest = author["now"] + LONGEST_SNOOZE_OF_P1
    if until > latest and get_incident(tx, incident_id, for_update=True).severity == "P1":
        raise InputInvalid(
            f"until={format_time(until)} is too late for incident {incident_id}: a P1 is snoozed for at "
            f"most 24 h, until {format_time(latest)}"
        )
    return _act(tx, incident_id, "snooze", {"snoozed_until": until}, why, **author)


def resolve_by_person(tx: Connection, incident_id: int, **author: Unpack[Author]) -> Row[Any]:
    """Resolve an incident, and record who and why in it and in its shop's audit; return the row before.

    The same cause does not open it again: see ``record_incidents``. Of a broken audit chain the findings are
    resolved too; then ``ShopfleetError`` unless ``tx`` has the role that owns the tables.
    """
    wanted = "it should explain why this incident needs no more work"
    why, now = require_text(author.get("reason", ""), "reason", wanted), author["now"]
    change = {"status": "resolved", "resolved_at": now, "updated_at": now}
    change |= {"resolved_by": author["by"], "resolved_reason": why}
    found = _act(tx, incident_id, "resolve", change, why, **author)
    if found.rule == AUDIT_FAILED:
        require_owner(tx, f"incident {incident_id} is a broken audit chain", "resolves it")
        for shop_id in find_chains_of(tx, found):
            resolve_chain(tx, shop_id, by=author["by"], reason=why, now=now)
    return found


def resolve_findings(tx: Connection, chain: str, **author: Unpack[Author]) -> Sequence[Row[Any]]:
    """Resolve what verifications found in a chain (a shop's slug, or ``fleet``), and its open incidents.

    Return the rows of the verifications. Raises ``ShopfleetError`` if there is none, or unless
    ``tx`` has the role that owns the tables.
    """
    why = require_text(
        author.get("reason", ""), "reason", "it should explain why the finding needs no more work"
    )
    require_owner(tx, "the findings of an audit chain are proof", "resolves them")
    broken = list_broken(tx)
    found = [row for row in broken if row.shop == chain]
    if len({row.shop_id for row in found}) != 1:
        names = ", ".join(dict.fromkeys(row.shop for row in broken)) or "none"
        raise ShopfleetError(f"{chain} is not one broken chain: nothing was changed. Broken chains: {names}")
    shop_id = found[0].shop_id
    resolve_chain(tx, shop_id, by=author["by"], reason=why, now=author["now"])
    mutations = [
        Mutation("audit_verifications", str(row.id), f"resolved {row.finding}: {why}", None, {"reason": why})
        for row in found
    ]
    append_change(tx, "audit.resolve", {shop_id: mutations}, **author)
    for incident in list_open_incidents(tx, AUDIT_FAILED):
        if incident.shop_id == shop_id and find_chains_of(tx, incident) <= {shop_id}:
            resolve_by_person(tx, incident.id, **author)
    return found


def find_chains_of(tx: Connection, incident: Row[Any]) -> frozenset[int | None]:
    """Return the broken chain that ``incident`` is about, as its verification names it; empty if none.

    Raises ``ShopfleetError`` if the incident names another shop: somebody changed it.
    """
    chains = find_chains(tx, incident.detail.get("findings", ()))
    if chains - {incident.shop_id}:
        raise ShopfleetError(
            f"incident {incident.id} has the findings of another chain than that of its shop: somebody "
            "changed it. Nothing was changed: `fleet gate` names the broken chains, and "
            "`fleet audit resolve SHOP` resolves the findings of one"
        )
    return chains


def require_owner(tx: Connection, what: str, does: str) -> None:
    """Raise ``ShopfleetError`` unless ``tx`` has the role that owns the tables."""
    if not is_owner(tx):
        raise ShopfleetError(
            f"{what}: only the owner of the tables {does}. "
            "Run the command with MIGRATE_DATABASE_URL of the owner's role"
        )


def record_action(
    tx: Connection,
    incident_id: int,
    kind: str,
    text: str,
    detail: dict[str, Any],
    **author: Unpack[Author],
) -> Row[Any]:
    """Add what a person did about an open incident to its timeline; return the incident."""
    why = require_text(text, "reason", "it should say what this does about the incident")
    return _act(tx, incident_id, kind, {}, why, detail, **author)


def list_entries(tx: Connection, incident_id: int) -> Sequence[Row[Any]]:
    """Return the timeline of an incident, the oldest entry first."""
    wanted = select(incident_entries).where(incident_entries.c.incident_id == incident_id)
    return tx.execute(wanted.order_by(incident_entries.c.id)).all()


def _act(
    tx: Connection,
    incident_id: int,
    kind: str,
    change: dict[str, Any],
    text: str,
    detail: dict[str, Any] | None = None,
    **author: Unpack[Author],
) -> Row[Any]:
    found = get_incident(tx, incident_id, for_update=True)
    if found.status != "open" and kind not in ("note", "gate_opened"):
        fault = NothingToDo if kind == "resolve" else ShopfleetError
        raise fault(f"incident {incident_id} is resolved already: nothing was changed")
    if change:
        tx.execute(incidents.update().where(incidents.c.id == incident_id).values(change))
    entry = {"incident_id": incident_id, "at": author["now"], "kind": kind, "by": author["by"], "text": text}
    if "snoozed_until" in change:
        detail = {"until": change["snoozed_until"].isoformat()}
    tx.execute(incident_entries.insert().values(entry | {"detail": detail or {}}))
    before = {name: _plain(getattr(found, name)) for name in change if name != "updated_at"}
    after = {name: _plain(change[name]) for name in before}
    summary = f"{_PAST[kind]} incident {found.rule} for {found.period}" + (f": {text}" if text else "")
    mutation = Mutation("incidents", str(incident_id), summary, before, after)
    append_change(tx, f"incident.{kind}", {found.shop_id: [mutation]}, **author)
    return found


_PAST = {
    "acknowledge": "acknowledged",
    "release": "took the holder of",
    "note": "noted on",
    "snooze": "snoozed",
    "resolve": "resolved",
    "gate_opened": "opened the deploy gate for",
    "action": "acted on",
}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def require_text(value: str, name: str, wanted: str) -> str:
    """Return ``value`` without blanks around it; raise ``InputInvalid`` if it is empty or too long."""
    if not value.strip():
        raise InputInvalid(f"{name} is empty: {wanted}")
    if len(value) > LONGEST_TEXT:
        raise InputInvalid(
            f"{name} has {format_count(len(value), 'character')}: it should have at most {LONGEST_TEXT:,}"
        )
    return value.strip()
