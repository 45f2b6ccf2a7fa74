"""``/jobs`` and ``/jobs/<job>``: schedules, runs, and what a person changes."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for

from services.accounts.roles import Role
from services.console.charts import CLOCK, DAY, SECONDS, Chart, Line, Span, plan_chart
from services.console.job_changes import list_acts, list_next_runs, plan_job_change
from services.console.job_lines import STATES, JobsReader, describe_catch_up, find_last_places, list_lines
from services.console.line_pages import list_filters, make_page, read_states
from services.console.list_reader import find_visible_slugs
from services.console.planned_change import PlannedChange, make_change
from services.console.shop_pages import get_visible_shop
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.jobs.definition import Job
from services.jobs.history import RunLine, find_history
from services.jobs.schedule import explain_schedule
from services.jobs.store import JobUnknown, get_job, list_schedules
from services.shops.shops import Shop

HISTORY = 50
"""Runs on the page of a job."""


def jobs_blueprint(reader: JobsReader) -> Blueprint:
    blueprint = Blueprint("jobs", __name__, url_prefix="/jobs")
    for path, endpoint, view, method in (
        ("/<job>", "show", _show_job, "GET"),
        ("/<job>/change", "plan", _show_plan, "GET"),
        ("/<job>/change", "change", _change, "POST"),
    ):
        blueprint.add_url_rule(path, endpoint, view, methods=[method])

    @blueprint.get("")
    def index() -> Any:
        return _show_jobs(reader)

    return blueprint


def _show_jobs(reader: JobsReader) -> Any:
    reading = reader.read()
    if reading is None:
        detail = "The jobs could not be read in time. The console's log has the cause."
        return render_template("error.html", title="No figures", detail=detail, is_red=True), 503
    visible = g.access.shops_with(Role.VIEWER)
    typed = request.args.get("q", "").strip().lower()
    wanted, job = read_states(STATES), request.args.get("job", "")
    every = [
        line
        for line in reading.lines
        if (visible is None or line.schedule.shop_id in visible)
        and (typed in line.schedule.slug or typed in line.schedule.job.name)
        and job in ("", line.schedule.job.name)
    ]
    with transaction() as tx:
        page = make_page([one for one in every if not wanted or one.state in wanted])
        last = find_last_places(tx, page.lines)
    counts = Counter(one.state for one in every)
    return render_template(
        "jobs.html",
        title="Jobs",
        is_red=bool(counts["failing"] or counts["overdue"]),
        page=page,
        last=last,
        filters=list_filters({state: counts[state] for state in STATES}, wanted),
        typed=request.args.get("q", ""),
        names=sorted({line.schedule.job.name for line in reading.lines}),
        at=reading.at,
        wanted_job=job,
    )


def _show_job(job: str) -> Any:
    found, shop = _find(job)
    if shop is None and found.per_shop and not g.access.may(Role.VIEWER):
        return redirect(url_for("jobs.index", job=job))
    shop_id = shop.id if shop else None
    with transaction() as tx:
        places = list_schedules(tx, job, shop_id)
        lines = list_lines(tx, places, g.at)
        runs = find_history(tx, job=job, shop_id=shop_id, limit=HISTORY)
        slugs = find_visible_slugs(tx, g.access)
    one = places[0] if len(places) == 1 else None
    return render_template(
        "job.html",
        title=f"{job} at {shop.slug}" if shop else job,
        is_red=False,
        job=found,
        shop=shop,
        place=one,
        words=explain_schedule(one.schedule if one else found.schedule),
        states=Counter(line.state for line in lines),
        next_runs=list_next_runs(found, one.schedule, one.zone) if one and one.enabled else [],
        catch_up=describe_catch_up(one, g.at) if one else "",
        runs=runs,
        zone=one.zone if one else "",
        slugs=slugs,
        chart=_plan_durations(runs, one.zone) if one else None,
        acts=list_acts(shop),
    )


def _plan_durations(runs: Sequence[RunLine], zone: str) -> Chart | None:
    """Return the chart of the durations of the runs that ended; None for fewer than two."""
    ended = sorted((run.due_at, run.duration_seconds) for run in runs if run.duration_seconds is not None)
    if len(ended) < 2 or ended[0][0] >= g.at:
        return None
    length = g.at - ended[0][0]
    is_long = length > timedelta(days=2)
    size = timedelta(days=1) if is_long else timedelta(hours=1)
    tick = size * max(1, round(length / size / 4))
    span = Span(length, length, tick, DAY if is_long else CLOCK)
    lines = [Line("Duration", [seconds for _, seconds in ended])]
    return plan_chart("Duration of runs", SECONDS, [at for at, _ in ended], lines, span, g.at, ZoneInfo(zone))


def _show_plan(job: str) -> Any:
    found, shop = _find(job)
    given, fault = request.args.to_dict(), ""
    planned: PlannedChange | None = None
    with transaction() as tx:
        try:
            planned = plan_job_change(found, shop, tx, given) if given.get("act") else None
        except InputInvalid as error:
            fault = str(error)
    return render_template(
        "job_change.html",
        title=planned.title if planned else f"Change {job}",
        job=found,
        shop=shop,
        given=given,
        planned=planned,
        fault=fault,
        acts=list_acts(shop),
    ), (422 if fault else 200)


def _change(job: str) -> Any:
    given = request.form.to_dict()
    found, shop = _find(job)
    try:
        result = make_change(partial(plan_job_change, found, shop), given)
        flash(result.text)
        if result.page:
            return redirect(result.page)
    except InputInvalid as fault:
        flash(str(fault), "error")
    return redirect(url_for("jobs.show", job=job, shop=shop.slug if shop else None))


def _find(name: str) -> tuple[Job, Shop | None]:
    return find_place(name, request.values.get("shop", ""))


def find_place(name: str, slug: str) -> tuple[Job, Shop | None]:
    """Return the job, and the shop unless ``slug`` is empty; answer 404 for one that a person may not see."""
    try:
        with transaction() as tx:
            job = get_job(tx, name)
    except JobUnknown as fault:
        abort(404, str(fault))
    if slug and not job.per_shop:
        abort(404, f"{name} runs once for the whole fleet")
    if not job.per_shop and not g.access.may(Role.VIEWER):
        abort(404, "this job is of the fleet")
    return job, get_visible_shop(slug) if slug else None
