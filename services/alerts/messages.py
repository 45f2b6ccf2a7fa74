"""Messages about incidents: the document that every channel gets, and its form for Slack and Sentry. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, NamedTuple
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from services.alerts.decide import Change
from services.alerts.rules import RULES
from services.alerts.runbook import Steps, find_steps
from services.core.counts import format_count
from services.core.log_redaction import redact
from services.core.times import format_time
from services.mail.formatting import span

MAX_NAMED = 10
"""Most incidents listed in one message; the others are only counted."""
MAX_SUMMARY = 300
"""Most characters of one summary in Slack, which refuses or cuts long messages."""
MAX_TEXT = 2000
"""Most characters of one summary elsewhere: receivers refuse a document of some hundred kilobytes."""
NAMESPACE = UUID("0f4f5d5b-3f43-4f43-9a67-1d2c2f3f8a51")
"""Namespace of the ids of Sentry events: a repeated event has the id of the first one."""
_LEVELS = {"P1": "fatal", "P2": "error", "P3": "warning"}

_TITLES = {Change.REPEATED: "still open", Change.REMINDED: "reminder", Change.NOTED: "note"}
"""Changes that Slack names otherwise."""

Message = Mapping[str, Any]
"""See ``make_message``."""


class Notice(NamedTuple):
    """An incident and its change. ``shop``: a slug or ``fleet``; ``base``: the rule up to its colon.

    ``note`` is the text of a note that ``by`` posted.
    """

    id: int
    base: str
    change: str
    severity: str
    rule: str
    period: str
    summary: str
    detail: Mapping[str, Any]
    opened_at: datetime
    shop: str
    shop_id: int | None = None
    timezone: str | None = None
    """That of the shop, for all times of the incident; None: the fleet's."""
    reopened_at: datetime | None = None
    failed_actions: Sequence[str] = ()
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolved_reason: str | None = None
    note: str = ""
    by: str = ""


def make_test_notice(by: str, now: datetime) -> Notice:
    """Return the notice of a test message."""
    summary = f"{by} tests this channel. Nothing is wrong."
    day = f"{now:%Y-%m-%d}"
    return Notice(0, "test_message", Change.TEST, "P3", "test_message", day, summary, {}, now, "fleet", by=by)


def make_message(rows: Sequence[Notice], now: datetime) -> dict[str, Any]:
    """Return the message about ``rows``, which have one rule and change. It is JSON."""
    first, rule, steps = rows[0], RULES.get(rows[0].base), list_steps(rows)
    # Two people may post notes, or test the channels, in one second.
    is_of_person = first.change in (Change.NOTED, Change.TEST)
    at = f"{now:%Y%m%dT%H%M%S.%fZ}" if is_of_person else f"{now:%Y%m%dT%H%M%SZ}"
    return {
        "id": f"{first.id}-{first.change}-{at}",
        "change": first.change,
        "severity": min(row.severity for row in rows),
        "rule": first.base,
        "about": rule.about if rule else first.base.replace("_", " "),
        "action": steps.fix if steps else "",
        "at": now.isoformat(),
        "count": len(rows),
        "note": first.note,
        "by": first.by,
        "incidents": [
            {
                "id": row.id,
                "shop": row.shop,
                "rule": row.rule,
                "period": row.period,
                "timezone": row.timezone,
                "severity": row.severity,
                "summary": row.summary[:MAX_TEXT],
                "opened_at": row.opened_at.isoformat(),
                "acknowledged_by": row.acknowledged_by,
                "resolved_at": row.resolved_at and row.resolved_at.isoformat(),
                "resolved_by": row.resolved_by,
                "resolved_reason": row.resolved_reason,
                "escalated_because": describe_escalation(row, now),
            }
            for row in rows[:MAX_NAMED]
        ],
    }


def list_steps(rows: Sequence[Notice]) -> Steps | tuple[()]:
    """Return what to do about ``rows``; nothing for a rule of a former release."""
    first, is_one = rows[0], len(rows) == 1
    rule, shop, period = (
        values.pop() if len(values := {getattr(row, name) for row in rows}) == 1 else ""
        for name in ("rule", "shop", "period")
    )
    detail = {
        name: value
        for name, value in first.detail.items()
        if all(row.detail.get(name) == value for row in rows)
    }
    incident_id = first.id if is_one else None
    return (
        find_steps(rule or first.base, shop=shop, period=period, incident_id=incident_id, detail=detail) or ()
    )


def format_slack(message: Message, zone: tzinfo) -> dict[str, Any]:
    """Return a Slack message with mrkdwn, and times in the zone of each shop, else in ``zone``.

    Source: docs.slack.dev/messaging/formatting-message-text.
    """
    change = _TITLES.get(message["change"], message["change"])
    by = {one["resolved_by"] for one in message["incidents"]}
    if message["change"] == Change.RECOVERED and len(by) == 1 and (person := by.pop()):
        change = f"resolved by {_escape(person)}"
    head = f"*{message['severity']} {change}*: {_escape(message['about'])} (`{message['rule']}`)"
    # A phone shows the first line alone.
    head += (
        f", {format_count(message['count'], 'incident')}"
        if message["count"] > 1
        else f", {message['incidents'][0]['shop']}"
    )
    lines = [f"• {_escape(_describe(one, zone))}" for one in message["incidents"]]
    if more := message["count"] - len(message["incidents"]):
        lines.append(f"• and {more} more: `fleet incidents list --rule {message['rule']}`")
    return {"text": "\n".join([head, *lines, *_list_next_lines(message)])}


def _list_next_lines(message: Message) -> Iterator[str]:
    """Return what a person does next."""
    change, found = message["change"], message["incidents"]
    if change == Change.TEST:
        return
    if change == Change.NOTED:
        yield f"{_escape(message['by'])}: {_escape(shorten(message['note']))}"
    elif change == Change.REMINDED:
        for one in found:
            yield f"{_name_holder(one, found)} and wrote no note for 30 min:"
            yield f"`fleet incidents note {one['id']} TEXT --post`"
    elif change != Change.RECOVERED:
        if change == Change.ESCALATED:
            yield "Get a second person."
        if message["action"]:
            yield f"Do: {_escape(message['action'])}"
        yield from (f"{_name_holder(one, found)}." for one in found if one["acknowledged_by"])
        free = " ".join(str(one["id"]) for one in found if not one["acknowledged_by"])
        if free and message["severity"] == "P1":
            what = "it, so that it is" if len(found) == 1 else "them, so that they are"
            yield f"Take {what} not repeated: `fleet incidents ack {free}`"
    yield ", ".join(f"`fleet incidents show {one['id']}`" for one in found)


def _name_holder(incident: Mapping[str, Any], found: Sequence[Any]) -> str:
    """Return who holds ``incident``, which is one of ``found``."""
    what = "it" if len(found) == 1 else f"incident {incident['id']}"
    return f"{_escape(incident['acknowledged_by'] or '')} holds {what}"


def _describe(incident: Mapping[str, Any], zone: tzinfo) -> str:
    opened_at, own = datetime.fromisoformat(incident["opened_at"]), incident.get("timezone")
    zone = ZoneInfo(own) if own else zone
    text, since = shorten(incident["summary"]), f"{format_time(opened_at, zone)}, {zone}"
    if not (ended := incident["resolved_at"]):
        cause = f"; escalated because {shorten(cause)}" if (cause := incident["escalated_because"]) else ""
        return f"{incident['shop']}: {text} (since {since}){cause}"
    by = incident["resolved_by"]
    how = f"resolved by {by}: {shorten(incident['resolved_reason'] or '')}. " if by else ""
    lasted = span(datetime.fromisoformat(ended) - opened_at)
    return f"{incident['shop']}: {how}{text} (since {since}, for {lasted})"


def describe_escalation(row: Notice, now: datetime) -> str:
    """Return why ``row`` is escalated; empty if it is not."""
    if row.change != Change.ESCALATED:
        return ""
    if len(row.failed_actions) > 1:
        return f"{format_count(len(row.failed_actions), 'action')} failed: {'; '.join(row.failed_actions)}"
    holder = f"{row.acknowledged_by} holds it" if row.acknowledged_by else "nobody acknowledged it"
    return f"it is a P1 and open for {span(now - (row.reopened_at or row.opened_at))}; {holder}"


def shorten(text: str) -> str:
    """Return ``text`` in one line of at most ``MAX_SUMMARY`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_SUMMARY else f"{line[: MAX_SUMMARY - 1]}…"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def format_sentry(message: Message, environment: str) -> dict[str, Any]:
    """Return the Sentry event of a message about one incident. Incidents of one shop and rule are one issue.

    Source: develop.sentry.dev/sdk/foundations/transport/event-payloads.
    """
    (one,) = message["incidents"]
    event = {
        "timestamp": message["at"],
        "platform": "python",
        "logger": "shopfleet.alerts",
        "level": _LEVELS[one["severity"]],
        "logentry": {"formatted": f"{one['shop']}: {message['about']}: {one['summary']}"},
        "fingerprint": [one["shop"], one["rule"]],
        "tags": {name: one[name] for name in ("shop", "rule", "severity")},
        "contexts": {"incident": {**one, "action": message["action"]}},
    }
    identity = {"event_id": uuid5(NAMESPACE, message["id"]).hex, "environment": environment}
    return {**redact(event), **identity}
