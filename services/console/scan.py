"""The morning scan: the state of each shop, and one verdict about all. Pure."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

from services.console import scan_cells
from services.console.scan_facts import (
    COLUMNS,
    FINE,
    STATES,
    UNKNOWN,
    Cell,
    ShopFacts,
    ShopScan,
    Sources,
    describe_missing,
)
from services.core.counts import format_count
from services.costs.month import AI, SMS
from services.jobs.definition import Covers
from services.jobs.schedule import find_slots, period_of


@lru_cache(maxsize=1024)
def find_night(schedule: str, zone: tzinfo, until: datetime) -> tuple[datetime, date] | None:
    """Return the newest slot of ``schedule`` up to ``until``, and the day that its run closes."""
    slots = find_slots(schedule, zone, until - timedelta(days=40), until, limit=1)
    return (slots[0], date.fromisoformat(period_of(Covers.DAY, slots[0], zone))) if slots else None


def classify_shop(facts: ShopFacts, sources: Sources, now: datetime) -> ShopScan:
    """Return the shop's line; its state is that of its worst cell."""
    slug, missing = facts.slug, describe_missing(sources, now)
    cells = [
        *scan_cells.check_night(facts),
        scan_cells.check_jobs(slug, facts.bad_runs, missing, now),
        scan_cells.check_costs(facts, AI),
        scan_cells.check_costs(facts, SMS),
        scan_cells.check_work(slug, facts.dead, facts.dead_since, now),
        scan_cells.check_connections(facts),
        scan_cells.check_incidents(slug, facts.incidents, missing, sources),
    ]
    return _make_line(facts, cells)


def classify_fleet(
    facts: ShopFacts, verified_at: datetime | None, sources: Sources, now: datetime
) -> ShopScan:
    """Return the line of what belongs to no shop; ``verified_at``: when all chains were last verified."""
    missing = describe_missing(sources, now)
    audit = Cell("audit", FINE, "verified", verified_at, "/audit")
    cells = [
        audit if verified_at else audit._replace(state=UNKNOWN, text="never verified"),
        scan_cells.check_jobs("", facts.bad_runs, missing, now),
        scan_cells.check_work("", facts.dead, facts.dead_since, now),
        scan_cells.check_connections(facts),
        scan_cells.check_incidents("", facts.incidents, missing, sources),
    ]
    return _make_line(facts, cells)


def _make_line(facts: ShopFacts, cells: Sequence[Cell]) -> ShopScan:
    if facts.incidents:
        cells = [scan_cells.raise_by_incidents(cell, facts) for cell in cells]
    found = {cell.column: cell for cell in cells}
    states = {cell.state for cell in found.values()}
    state = next(one for one in STATES if one in states)
    return ShopScan(facts.shop_id, facts.slug, facts.name, facts.timezone, state, found)


def sort_scans(scans: Sequence[ShopScan]) -> list[ShopScan]:
    """Return the lines, the worst first: by state, by the number of such cells, then by slug."""

    def key(scan: ShopScan) -> tuple[int, int, str]:
        bad = sum(cell.state == scan.state != FINE for cell in scan.cells.values())
        return STATES.index(scan.state), -bad, scan.slug

    return sorted(scans, key=key)


def describe_causes(scan: ShopScan) -> str:
    """Return the cells that give a line its state: "Dead work: 2; Jobs: ..."; empty if it is fine."""
    worst = [cell for cell in scan.cells.values() if cell.state == scan.state != FINE]
    return "; ".join(f"{COLUMNS[cell.column]}: {cell.text}" for cell in worst)


def count_states(scans: Sequence[ShopScan]) -> dict[str, int]:
    """Return how many lines have each state, the worst first."""
    return {state: sum(scan.state == state for scan in scans) for state in STATES}


class Verdict(NamedTuple):
    """One sentence about all shops that a person sees, its state, and why it is not fine."""

    state: str
    text: str
    why: str = ""


def plan_verdict(
    scans: Sequence[ShopScan], fleet: ShopScan | None, sources: Sources, now: datetime
) -> Verdict:
    """Return the verdict about ``scans``, which are of shops; it is fine only if nothing is missing."""
    missing = describe_missing(sources, now)
    why = f"{missing[:1].upper()}{missing[1:]}." if missing else ""
    if not scans:
        return Verdict(UNKNOWN, "No shops yet", why or "Add one: fleet shops add.")
    states = [scan.state for scan in scans] + ([fleet.state] if fleet else [])
    state = min([*states, *([UNKNOWN] if missing else [])], key=STATES.index)
    fine = sum(scan.state == FINE for scan in scans)
    text = f"{fine:,} of {format_count(len(scans), 'shop')} fine"
    return Verdict(state, text, why)
