"""What a person changes on ``/jobs/<job>``: a run now, a pause, a schedule. Plans first."""

from collections.abc import Callable, Mapping
from datetime import UTC
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from flask import g, url_for
from sqlalchemy import Connection

from services.accounts.roles import Role
from services.bulk.runs_of_jobs import plan_run_everywhere, start_run_everywhere
from services.console.planned_change import ChangeResult, Given, PlannedChange, check_role, choose
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import rolled_back
from services.core.settings import get_settings
from services.core.times import format_time
from services.jobs.definition import Job
from services.jobs.runs import StartOutcome, StartResult, trigger_job
from services.jobs.schedule import explain_schedule, list_next_slots, parse_schedule, period_of
from services.jobs.store import change_job, list_schedules, resume_job
from services.shops.shops import Shop

PREVIEWED = 5
"""How many next runs are shown."""

OUTCOMES = {
    StartOutcome.STARTED: "starts",
    StartOutcome.RUNNING: "is open already: nothing changes",
    StartOutcome.ALREADY_DONE: "is done already: nothing changes, unless it is run again",
}


def plan_job_change(job: Job, shop: Shop | None, tx: Connection, given: Given) -> PlannedChange:
    """Return the change of ``job``, at ``shop`` or everywhere, that ``given`` describes.

    Raises ``InputInvalid``; answers 403 to a person whose role is too low.
    """
    act = choose("act", given.get("act", ""), tuple(PLANS))
    role, plan = PLANS[act]
    check_role(role, shop.id if shop else None)
    return plan(tx, job, shop, given)


def list_next_runs(job: Job, schedule: str, zone: str) -> list[str]:
    """Return the next runs: time in the zone and in UTC, and the period."""
    local = ZoneInfo(zone)
    return [
        f"{at.astimezone(local):%a} {format_time(at, local)} ({format_time(at, UTC)}), "
        f"for {period_of(job.covers, at, local)}"
        for at in list_next_slots(schedule, local, utc_now(), PREVIEWED)
    ]


def list_acts(shop: Shop | None) -> list[str]:
    """Return the changes that this person may make at ``shop`` or everywhere."""
    return [act for act, (role, _) in PLANS.items() if g.access.may(role, shop.id if shop else None)]


def _plan_run(tx: Connection, job: Job, shop: Shop | None, given: Given) -> PlannedChange:
    if shop is None and job.per_shop:
        return _plan_run_everywhere(tx, job, given.get("period", "").strip(), again=given.get("again") == "1")
    start = partial(
        trigger_job,
        job=job,
        slug=shop.slug if shop else "",
        period=given.get("period", "").strip() or None,
        origin="console",
        force=given.get("again") == "1",
    )
    with rolled_back(tx):
        (planned,) = start(tx, by=g.access.email, now=g.at)

    def act(tx: Connection, author: Mapping[str, Any]) -> ChangeResult:
        (result,) = start(tx, **author)
        refs = [ref for ref in (result.ref, *result.checkins) if ref]
        return ChangeResult(f"{job.name}: {_describe_start(result)}", refs)

    return PlannedChange(f"Run {_name(job, shop)} now", _describe_start(planned), act)


def _plan_run_everywhere(tx: Connection, job: Job, period: str, *, again: bool) -> PlannedChange:
    """Plan a bulk action: a thousand shops take longer than a page may."""
    plan = plan_run_everywhere(tx, job, period, g.at, again=again)
    left_out = [f"{cause}: {format_count(len(ids), 'shop')}" for cause, ids in plan.skipped.items()]

    def act(tx: Connection, author: Mapping[str, Any]) -> ChangeResult:
        number, refs = start_run_everywhere(tx, job, period, plan, g.access.user_id, again=again, **author)
        text = f"Bulk action {number} starts {job.name} at {format_count(len(plan.rows), 'shop')}."
        return ChangeResult(text, refs, url_for("bulk.show", number=number))

    of_period = f"for {period}" if period else "for the newest period that is over in its zone"
    effect = f"A run starts at {format_count(len(plan.rows), 'shop')}, {of_period}, as a bulk action."
    if not plan.rows:
        effect = "No run starts at any shop: nothing changes."
    return PlannedChange(f"Run {_name(job, None)} now", effect, act, left_out)


def _describe_start(result: StartResult) -> str:
    return f"The run for {result.period} {OUTCOMES[result.found]}."


def _plan_pause(_tx: Connection, job: Job, shop: Shop | None, _given: Given) -> PlannedChange:
    def act(tx: Connection, author: Mapping[str, Any]) -> ChangeResult:
        is_changed = change_job(tx, job, shop, {"enabled": False}, **author)
        return ChangeResult(f"{_name(job, shop)} is paused." if is_changed else "It was paused already.")

    effect = "No run starts until it is resumed. Runs that are due in the pause do not run later."
    return PlannedChange(f"Pause {_name(job, shop)}", effect, act)


def _plan_resume(_tx: Connection, job: Job, shop: Shop | None, _given: Given) -> PlannedChange:
    def act(tx: Connection, author: Mapping[str, Any]) -> ChangeResult:
        is_changed = resume_job(tx, job, shop, **author)
        return ChangeResult(f"{_name(job, shop)} is resumed." if is_changed else "It was not paused.")

    effect = "Runs start again from the next time on." + (
        "" if shop else " Shops with their own pause stay paused."
    )
    return PlannedChange(f"Resume {_name(job, shop)}", effect, act)


def _plan_schedule(tx: Connection, job: Job, shop: Shop | None, given: Given) -> PlannedChange:
    typed = given.get("schedule", "").strip()
    places = list_schedules(tx, job.name)
    # A shop without its own schedule has that of the whole job.
    of_job = next((one.schedule for one in places if not one.is_own), job.schedule) if shop else job.schedule
    schedule = parse_schedule(typed or of_job)
    zones = {one.shop_id: one.zone for one in places}
    zone = zones.get(shop.id if shop else None, get_settings().fleet_timezone)

    def act(tx: Connection, author: Mapping[str, Any]) -> ChangeResult:
        is_changed = change_job(tx, job, shop, {"schedule": schedule if typed else None}, **author)
        text = f"{_name(job, shop)} has the schedule {schedule}."
        return ChangeResult(text if is_changed else "It has this schedule already.")

    of_all = (
        " Each shop has its own zone: these are times of the fleet's." if job.per_shop and not shop else ""
    )
    effect = (
        f"{explain_schedule(schedule)} ({zone}). Runs that are due already keep the old schedule.{of_all}"
    )
    title = f"Change the schedule of {_name(job, shop)} to {schedule if typed else 'the default'}"
    return PlannedChange(title, effect, act, list_next_runs(job, schedule, zone))


PLANS: Mapping[str, tuple[Role, Callable[[Connection, Job, Shop | None, Given], PlannedChange]]] = {
    "run": (Role.OPERATOR, _plan_run),
    "pause": (Role.OPERATOR, _plan_pause),
    "resume": (Role.OPERATOR, _plan_resume),
    "schedule": (Role.ADMIN, _plan_schedule),
}
"""By name: the least role, and the function that plans it."""


def _name(job: Job, shop: Shop | None) -> str:
    return f"{job.name} at {shop.slug}" if shop else job.name + (" at all shops" if job.per_shop else "")
