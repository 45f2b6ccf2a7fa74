"""What ``fleet jobs set``, ``pause`` and ``resume`` share: do it, and say what holds then."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from sqlalchemy import Connection

from services.core.clock import utc_now
from services.core.db import rolled_back
from services.jobs.definition import Job
from services.jobs.schedule import explain_schedule
from services.jobs.store import EffectiveSchedule, list_schedules
from services.jobs.trigger import find_scope
from services.shops.shops import Shop
from tasks.commands.jobs_plan import find_planned

Change = Callable[[Connection, Job, Shop | None], None]


def make_change(tx: Connection, job: Job, slug: str, change: Change, *, dry_run: bool) -> str:
    """``change`` is made at the shop ``slug`` or everywhere. Returns what holds then.

    With ``dry_run`` it is taken back, and what would hold is returned. Raises as ``find_scope`` does.
    """
    (shop,) = find_scope(tx, job, slug) if slug else (None,)
    with rolled_back(tx) if dry_run else nullcontext():
        change(tx, job, shop)
        places = [place for place in list_schedules(tx, job.name) if shop is None or place.shop_id == shop.id]
        planned = find_planned(tx, job.name, shop.id if shop else None, utc_now(), 1)
    where = f" at {slug}" if slug else ""
    said = [f"{job.name}{where} {'would be' if dry_run else 'is'} {_say_places(places)}."]
    return "\n".join(said + [f"Next: {one.local} for {one.period} ({one.where})" for one in planned])


def _say_places(places: Sequence[EffectiveSchedule]) -> str:
    paused = [place.slug or "the fleet" for place in places if not place.enabled]
    if not places:
        return "changed for shops to come: there are none yet"
    if len(paused) == len(places):
        return "paused"
    times = sorted({f"{explain_schedule(p.schedule)} ({p.schedule})" for p in places if p.enabled})
    said = "run " + "; ".join(time[0].lower() + time[1:] for time in times)
    return said + (f"; paused at {', '.join(paused)}" if paused else "")
