"""The draft of a postmortem, written from the record: the incident, its timeline and the audit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row

from services.alerts.incidents import find_zone, get_incident
from services.alerts.people import list_entries
from services.alerts.rules import RULES
from services.alerts.runbook import find_steps
from services.audit.queries import find_changes
from services.core.times import format_moment, format_time
from services.mail.formatting import span
from services.shops.shops import find_slugs

BEFORE = timedelta(hours=24)
"""Changes of this time before the incident may be its cause."""
MAX_CHANGES = 200
OWN_ACTIONS = "incident."
"""Audited acts on incidents, which the timeline has in its own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """All that is recorded about an incident. ``changes`` are rows of ``find_changes``, the oldest first."""

    incident: Row[Any]
    shop: str
    state: str
    entries: Sequence[Row[Any]]
    changes: Sequence[Row[Any]]
    now: datetime
    zone: ZoneInfo

    @property
    def before(self) -> list[Row[Any]]:
        """What people and deploys changed before the incident opened."""
        return [one for one in self.changes if one.at < self.incident.opened_at]

    @property
    def actions(self) -> list[Row[Any]]:
        """What people changed while the incident was open."""
        return [one for one in self.changes if one.at >= self.incident.opened_at]


def read_record(tx: Connection, incident_id: int, now: datetime) -> Record:
    """Return the record of an incident; raise ``InputInvalid`` for an unknown id."""
    found = get_incident(tx, incident_id)
    since, until = found.opened_at - BEFORE, found.resolved_at or now
    changes = find_changes(tx, found.shop_id, since, until, MAX_CHANGES)
    return Record(
        incident=found,
        shop=find_slugs(tx).get(found.shop_id, "fleet") if found.shop_id is not None else "fleet",
        state=found.state,
        entries=list_entries(tx, incident_id),
        changes=[one for one in changes if not one.action.startswith(OWN_ACTIONS)],
        now=now,
        zone=find_zone(tx, found.shop_id),
    )


def format_postmortem(record: Record) -> str:
    """Return the draft as Markdown, with times in the shop's zone. A person answers its questions."""
    incident, zone = record.incident, record.zone
    rule = RULES.get(incident.rule.partition(":")[0])
    about = rule.about if rule else incident.rule.replace("_", " ")
    steps = find_steps(
        incident.rule,
        shop=record.shop,
        period=incident.period,
        incident_id=incident.id,
        detail=incident.detail,
    )
    action = steps.fix if steps else ""
    lines = [
        f"# Postmortem of incident {incident.id}: {about}",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {_cell(value)} |" for name, value in _list_facts(record, zone)),
        "",
        "## What happened",
        "",
        _text(incident.summary),
        "",
        "Who noticed it, and what did customers see?",
        "",
        "## Figures",
        "",
        *(
            [f"- {name}: {_text(format_moment(value, zone))}" for name, value in incident.detail.items()]
            or ["None recorded."]
        ),
        "",
        f"## What changed in the {BEFORE // timedelta(hours=1)} h before",
        "",
        *_format_changes(record.before, zone),
        "",
        "## Timeline",
        "",
        *_format_timeline(record, zone),
        "",
        "## Cause",
        "",
        "What was the cause, and why was it possible?",
        "",
        "## Follow-ups",
        "",
        f"- [ ] Was this the right first step? {_text(action)}",
        "- [ ] What removes the cause? Who does it, until when?",
        "- [ ] What would have shown it earlier, or what alert was too much?",
    ]
    return "\n".join(lines) + "\n"


def _list_facts(record: Record, zone: ZoneInfo) -> Iterator[tuple[str, object]]:
    incident = record.incident
    yield "Severity", incident.severity
    yield "Rule", f"`{incident.rule}`"
    yield "Shop", record.shop
    yield "State", record.state
    yield "Times", record.zone
    yield "Opened", _time(incident.opened_at, zone)
    for name, kind in (("First message", "notified"), ("Acknowledged", "acknowledge")):
        first = next((one for one in record.entries if one.kind == kind), None)
        if first is not None:
            by = f" by {first.by}" if first.by else ""
            yield name, f"{_time(first.at, zone)}{by}, {_after(first.at - incident.opened_at)}"
    if incident.resolved_at:
        by = f" by {incident.resolved_by}: {incident.resolved_reason}" if incident.resolved_by else ""
        yield "Resolved", f"{_time(incident.resolved_at, zone)}{by}"
    yield "Lasted", span((incident.resolved_at or record.now) - incident.opened_at)
    yield "Draft made", _time(record.now, zone)


def _format_changes(changes: Sequence[Row[Any]], zone: ZoneInfo) -> list[str]:
    if not changes:
        return ["No person changed anything, and no other release was started."]
    lines = [f"- {_time(one.at, zone)}: {_describe(one)}" for one in changes]
    if len(changes) == MAX_CHANGES:
        lines.append(f"- Only the newest {MAX_CHANGES} changes are read.")
    return lines


def _format_timeline(record: Record, zone: ZoneInfo) -> list[str]:
    entries = [(one.at, _describe_entry(one)) for one in record.entries]
    actions = [(one.at, _describe(one)) for one in record.actions]
    return [f"- {_time(at, zone)}: {text}" for at, text in sorted(entries + actions, key=lambda one: one[0])]


def _describe(change: Row[Any]) -> str:
    scope = "" if change.shop_id is None else " (shop)"
    return _text(f"{change.staff_label or 'nobody named'}{scope}: {change.summaries}")


def _describe_entry(entry: Row[Any]) -> str:
    by = f" by {entry.by}" if entry.by else ""
    outcome = f"{entry.detail['outcome']} " if "outcome" in entry.detail else ""
    return _text(f"{outcome}{entry.kind}{by}" + (f": {entry.text}" if entry.text else ""))


def _time(at: datetime, zone: ZoneInfo) -> str:
    return format_time(at, zone, with_seconds=True)


def _after(time: timedelta) -> str:
    return f"{span(time)} after it opened" if time >= timedelta(seconds=1) else "at once"


def _cell(value: object) -> str:
    return _text(value).replace("|", "\\|")


def _text(value: object) -> str:
    """Return ``value`` in one line, so that a text from outside makes no heading or HTML of its own."""
    return " ".join(str(value).split()).replace("<", "&lt;")
