"""The cells of the morning scan: a shop's facts become state, text, time and evidence. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from textwrap import shorten
from typing import Any
from zoneinfo import ZoneInfo

from services.console.scan_facts import (
    COLUMNS,
    FINE,
    RED,
    STATES,
    UNKNOWN,
    WARN,
    BadRun,
    Cell,
    OpenIncident,
    ShopFacts,
    Sources,
)
from services.core.times import format_time
from services.costs.month import AI

NOT_RESOLVED = "open,acknowledged,snoozed"
"""The states of the incidents that are not resolved, as a filter of their list."""

MAX_CHARACTERS = 48
"""Of an incident's summary in a cell, so that a line stays a line."""

WARN_PERCENT, FULL_PERCENT = 80, 100
"""The share of a cap or budget from which a cell warns."""

_COLUMN_OF_RULE: Mapping[str, str] = {
    "requests_failed": "requests",
    "reconciliation_break": "reconciliation",
    "break_old": "reconciliation",
    "audit_chain_failed": "audit",
    "audit_work_id_taken": "audit",
    "audit_rows_kept": "audit",
    "cron_did_not_run": "jobs",
    "job_failed": "jobs",
    "run_too_long": "jobs",
    "ai_at_cap": "ai",
    "sms_over_budget": "sms",
    "work_dead": "work",
    "connection_broken": "connections",
    "credential_expires": "connections",
    "refresh_failing": "connections",
}
"""Rule -> the column that an open incident of it also changes. Every incident is in ``incidents``."""


def find_evidence(rule: str, slug: str) -> tuple[str, str]:
    """Return heading and address of the figures behind an incident of ``rule``; both empty if it has none.

    ``slug`` is the incident's shop, empty for the fleet.
    """
    name, _, part = rule.partition(":")
    column = _COLUMN_OF_RULE.get(name, "")
    topic = f"&topic={part}" if name == "work_dead" and part else ""
    urls = {
        "requests": _link("errors", slug),
        "reconciliation": f"/shops/{slug}#figures",
        "audit": _link("audit", slug),
        "jobs": _link("runs", slug, "status=failed"),
        **dict.fromkeys(("ai", "sms"), f"/shops/{slug}#budgets"),
        "work": _link("work", slug, f"status=dead{topic}"),
        "connections": _link("platform/health", "", f"q={slug}" if slug else ""),
    }
    return (COLUMNS[column], urls[column]) if column else ("", "")


def raise_by_incidents(cell: Cell, facts: ShopFacts) -> Cell:
    """Return ``cell``, or the worst open incident of its rules if that is worse."""
    ones = [one for one in facts.incidents if _COLUMN_OF_RULE.get(one.rule.partition(":")[0]) == cell.column]
    worst = min(ones, key=lambda one: (STATES.index(one.state), one.opened_at), default=None)
    if worst is None or STATES.index(worst.state) >= STATES.index(cell.state):
        return cell
    url = f"/incidents/{worst.id}"
    summary = worst.summary.partition(" since ")[0]  # the cell has its own time
    text = shorten(summary, MAX_CHARACTERS, placeholder="…")  # the incident's page has all of it
    return cell._replace(state=worst.state, text=text, since=worst.opened_at, url=url)


def check_night(facts: ShopFacts) -> list[Cell]:
    """Return the cells of what the nightly run records."""
    cause, at = _describe_no_night(facts), _get_time(facts.last_run or {})
    return [
        _check_requests(facts, cause, at),
        _check_reconciliation(facts, cause, at),
        _check_audit(facts, cause, at),
    ]


def _check_requests(facts: ShopFacts, cause: str, at: datetime | None) -> Cell:
    url = _link("errors", facts.slug)
    counted = (facts.last_run or {}).get("requests")
    if cause or counted is None:
        return Cell("requests", UNKNOWN, cause or "not counted", at, url)
    count, failed = counted["count"], counted["failed"]
    text = f"{failed:,} of {count:,}" if count else "no requests"
    if failed:
        text += f" ({100 * failed / count:.2g}%)"
    return Cell("requests", WARN if failed else FINE, text, at, url)


def _check_reconciliation(facts: ShopFacts, cause: str, at: datetime | None) -> Cell:
    run = facts.last_run or {}
    # Breaks that are still open have an incident.
    fine = {"clean": "clean", "no_stripe": "no stripe", "breaks": "breaks, solved since"}
    text = "" if cause else fine.get(run.get("payments", ""), "")
    if not text and not cause:
        code = run.get("error_code")
        cause = f"not compared: {code}" if code else "not compared"
    return Cell("reconciliation", FINE if text else UNKNOWN, text or cause, at, f"/shops/{facts.slug}#night")


def _check_audit(facts: ShopFacts, cause: str, at: datetime | None) -> Cell:
    audit, url = (facts.last_run or {}).get("audit"), _link("audit", facts.slug)
    if audit and not audit["verified"]:
        return Cell("audit", WARN, "altered, resolved since", at, url)  # an open finding has an incident
    if cause or not audit:
        return Cell("audit", UNKNOWN, cause or "not verified", at, url)
    return Cell("audit", FINE, "verified", at, url)


def check_jobs(slug: str, bad: Sequence[BadRun], missing: str, now: datetime) -> Cell:
    cell = Cell("jobs", FINE, "on time", now, _link("runs", slug))
    if bad:
        first = min(bad, key=lambda run: run.since)
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        text = f"{first.name} {'is late' if first.is_late else 'failed'}{more}"
        return cell._replace(state=RED, text=text, since=first.since)
    return cell._replace(state=UNKNOWN, text=missing, since=None) if missing else cell


def check_costs(facts: ShopFacts, kind: str) -> Cell:
    costs, url = facts.costs.get(kind), f"/shops/{facts.slug}#budgets"
    if costs is None:
        return Cell(kind, FINE, "nothing", None, url)
    since = _begin_month(costs.month, facts.timezone)
    percent = costs.percent  # computed at each access
    if percent is None:
        return Cell(kind, FINE, f"{costs.spent}, no limit", since, url)
    text = f"{percent:.0f}% of {costs.limit}"
    if percent >= FULL_PERCENT:
        return Cell(kind, RED if kind == AI else WARN, text, since, url)
    is_foreign = any(not costs.limit.endswith(currency) for currency in costs.micros)
    if is_foreign and (left := costs.not_converted):
        return Cell(kind, WARN, f"{text}, without {left}", since, url)
    return Cell(kind, WARN if percent >= WARN_PERCENT else FINE, text, since, url)


@lru_cache(maxsize=1024)
def _begin_month(month: str, timezone: str) -> datetime:
    return datetime.fromisoformat(f"{month}-01").replace(tzinfo=ZoneInfo(timezone))


def check_work(slug: str, dead: int, since: datetime | None, now: datetime) -> Cell:
    url = _link("work", slug, "status=dead")
    return Cell("work", RED, f"{dead:,}", since, url) if dead else Cell("work", FINE, "0", now, url)


def check_connections(facts: ShopFacts) -> Cell:
    url = _link("platform/health", "", facts.slug and f"q={facts.slug}")
    broken = [one for one in facts.connections if one.status == "broken"]
    if broken:
        text = ", ".join(f"{one.provider}: {one.code}" for one in broken)
        return Cell("connections", RED, text, min(one.since for one in broken), url)
    since = max((one.since for one in facts.connections), default=None)
    if not facts.has_token:
        return Cell("connections", WARN, "no Shopify token", since, url)
    if not facts.has_catalogue:
        return Cell("connections", WARN, "catalogue not read yet", since, url)
    if not facts.connections:
        return Cell("connections", FINE if not facts.slug else UNKNOWN, "not used yet", None, url)
    return Cell("connections", FINE, f"{len(facts.connections)} accepted", since, url)


def check_incidents(slug: str, found: Sequence[OpenIncident], missing: str, sources: Sources) -> Cell:
    cell = Cell("incidents", FINE, "0", sources.rules_at, _link("incidents", slug, f"state={NOT_RESOLVED}"))
    if not (found or missing or sources.is_cut):
        return cell
    counts = {name: sum(one.severity == name for one in found) for name in ("P1", "P2", "P3")}
    text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    states = [one.state for one in found]
    if RED in states or (found and not missing):
        since = min(one.opened_at for one in found)
        return cell._replace(state=min(states, key=STATES.index), text=text, since=since)
    if missing or sources.is_cut:
        cause = missing or "too many are open to read them all"
        return cell._replace(state=UNKNOWN, text=f"{text}; {cause}" if text else cause)
    return cell


def _describe_no_night(facts: ShopFacts) -> str:
    """Return why there are no figures of the last night; empty if there are."""
    night = facts.night
    if not night.enabled:
        return "daily-reconciliation is switched off"
    if night.day is None:
        if night.next_due_at is None:
            return "no run is planned: is beat running?"
        first = format_time(night.next_due_at, ZoneInfo(facts.timezone))
        return f"first run {first}" if not facts.last_run else ""
    day = (facts.last_run or {}).get("day", "")
    if day >= night.day.isoformat():
        return ""
    return f"no run of {night.day}" + (f", last {day}" if day else "")


def _get_time(run: Mapping[str, Any]) -> datetime | None:
    return datetime.fromisoformat(run["at"]) if run.get("at") else None


def _link(page: str, slug: str, query: str = "") -> str:
    shop = f"shop={slug}" if slug else ""
    both = f"{shop}&{query}" if shop and query else shop or query
    return f"/{page}?{both}" if both else f"/{page}"
