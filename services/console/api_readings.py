"""``/api/v1/scan``, ``queues``, ``connections`` ...: what the pages show that are no list, as JSON."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from flask import Blueprint, Response, g, request
from sqlalchemy import Row

from services.accounts.roles import Role
from services.closing.letters import describe_state, find_version, list_letters
from services.console.answers import Answer, json_error
from services.console.connection_lines import list_company_lines
from services.console.details import read_error
from services.console.job_lines import STATES as JOB_STATES
from services.console.job_lines import JobPlaceLine, JobsReader
from services.console.letter_pages import list_visible_planned
from services.console.list_page import MAX_CANDIDATES
from services.console.list_reader import find_visible_slugs
from services.console.openapi import MAX_ROWS
from services.console.queue_changes import list_visible_pauses
from services.console.queue_reading import QueueLine, QueueReader, list_queue_lines
from services.console.scan import plan_verdict
from services.console.scan_facts import STATES, ShopScan
from services.console.scan_reading import ScanReader
from services.console.shop_facts import read_shop_facts
from services.console.shop_pages import get_visible_shop
from services.core.db import transaction
from services.core.errors import describe_unknown
from services.ledger.backoff import list_backoffs
from services.ledger.dead_groups import list_dead_groups
from services.ledger.pause import Pause
from services.timesheets.definition import describe
from services.timesheets.store import list_reports, list_runs


def add_api_readings(blueprint: Blueprint, scan: ScanReader, queues: QueueReader, jobs: JobsReader) -> None:
    """Add the routes to the blueprint of the API."""
    blueprint.add_url_rule("/scan", "show_scan", lambda: _show_scan(scan))
    blueprint.add_url_rule("/reports", "list_reports", _list_reports)
    blueprint.add_url_rule("/letters", "list_letters", _list_letters)
    blueprint.add_url_rule("/letters/planned", "list_planned", _list_planned)
    blueprint.add_url_rule("/shops/<shop>", "show_shop", _show_shop)
    blueprint.add_url_rule("/errors/<request_id>", "show_error", _show_error)
    blueprint.add_url_rule("/connections", "list_connections", _list_connections)
    blueprint.add_url_rule("/dead", "list_dead", _list_dead)
    blueprint.add_url_rule("/queues", "show_queues", lambda: _show_queues(queues))
    blueprint.add_url_rule("/jobs", "show_jobs", lambda: _show_jobs(jobs))


def _show_scan(reader: ScanReader) -> Response | Answer:
    reading = reader.read()
    if reading is None:
        return _too_slow("the shops")
    visible = g.access.shops_with(Role.VIEWER)
    shops = [one for one in reading.shops if visible is None or one.shop_id in visible]
    fleet = reading.fleet if visible is None else None
    verdict = plan_verdict(shops, fleet, reading.sources, reading.at)
    lines = [_describe_scan(one) for one in [*([fleet] if fleet else []), *shops]]
    found = _choose(lines, {"state": STATES})
    if not isinstance(found, list):
        return found
    return _answer({"at": reading.at, "verdict": {**verdict._asdict()}, "shops": found})


def _describe_scan(scan: ShopScan) -> dict[str, Any]:
    cells = {
        name: {"state": cell.state, "text": cell.text, "since": cell.since, "path": cell.url}
        for name, cell in scan.cells.items()
    }
    document = {"shop": scan.slug or None, "name": scan.name, "timezone": scan.timezone}
    return document | {"state": scan.state, "cells": cells}


def _list_reports() -> Response | Answer:
    with transaction() as tx:
        slugs = find_visible_slugs(tx, g.access)
        reports = [one for one in list_reports(tx) if one.shop_id in slugs]
        last = {one.id: next(iter(list_runs(tx, report_id=one.id, limit=1)), None) for one in reports}
    lines = [
        {"id": one.id, "shop": slugs[one.shop_id], "name": one.name, **describe(one)}
        | {name: getattr(last[one.id], column, None) for name, column in _LAST_RUN.items()}
        for one in reports
    ]
    found = _choose(lines, {})
    return _answer({"at": g.at, "reports": found}) if isinstance(found, list) else found


_LAST_RUN = {"last_period": "period", "last_status": "status", "last_error_code": "error_code"}
"""Name in the answer -> column of the newest run."""


def _list_letters() -> Response | Answer:
    with transaction() as tx:
        letters = list_letters(tx, shop_ids=sorted(find_visible_slugs(tx, g.access)), limit=MAX_ROWS)
    names = ("id", "week", "subject", "body", "reason", "drafted_at", "send_at", "sent_at", "error_code")
    lines = [
        {"shop": one.slug, "state": describe_state(one), "version": find_version(one)}
        | {name: getattr(one, name) for name in names}
        for one in letters
    ]
    found = _choose(lines, {})
    return _answer({"at": g.at, "letters": found}) if isinstance(found, list) else found


def _list_planned() -> Response | Answer:
    with transaction() as tx:
        planned = list_visible_planned(tx)
    names = ("id", "planned_on", "text", "added_by")
    lines = [{"shop": one.slug} | {name: getattr(one, name) for name in names} for one in planned]
    found = _choose(lines, {})
    return _answer({"at": g.at, "planned": found}) if isinstance(found, list) else found


def _show_shop(shop: str) -> Response:
    """Answer what the page of the shop has and no list."""
    own = get_visible_shop(shop)
    with transaction() as tx:
        facts = read_shop_facts(tx, own, g.at)
    rows = {name: [_describe_row(one) for one in facts[name]] for name in ("connections", "secrets")}
    kept = {name: facts[name] for name in ("schedules", "last_run")}
    budgets = ("kind", "month", "spent", "limit", "percent", "not_converted", "is_at_limit")
    return _answer(
        {
            "at": g.at,
            "shop": own.slug,
            "created_at": own.created_at,
            "settings": {name: str(value) for name, _, value in (*facts["settings"], *facts["limits"])},
            "staff": dict(facts["staff"]) if g.access.may(Role.ADMIN, own.id) else {},
            "days": [
                one | {"breaks": _describe_row(one["breaks"]) if one["breaks"] else None}
                for one in facts["days"]
            ],
            "budgets": [{name: getattr(one, name) for name in budgets} for one in facts["budgets"]],
            "thresholds": [
                one | {"rule": one["rule"].name, "unit": one["rule"].unit} for one in facts["thresholds"]
            ],
            "months": [
                {"period": one.period, "closed_at": one.closed_at, "files": one.files}
                for one in facts["months"]
            ],
            "failed_runs": facts["runs"].failed,
            **rows,
            **kept,
        }
    )


def _describe_row(row: Row[Any]) -> dict[str, Any]:
    return {str(name): value for name, value in row._mapping.items()}


def _show_error(request_id: str) -> Response:
    error, mutations, event_id = read_error(request_id)
    with transaction() as tx:
        slugs = find_visible_slugs(tx, g.access)
    names = ("request_id", "at", "route", "status", "error_class", "reason", "staff_label", "request")
    done = ("at", "staff_label", "action", "table_name", "row_id", "summary")
    return _answer(
        {name: getattr(error, name) for name in names}
        | {"shop": slugs.get(error.shop_id) if error.shop_id else None, "event_id": event_id}
        | {"mutations": [{name: getattr(one, name) for name in done} for one in mutations]}
    )


def _list_connections() -> Response | Answer:
    visible = g.access.shops_with(Role.VIEWER)
    with transaction() as tx:
        every = [one for one in list_company_lines(tx, g.at) if visible is None or one.shop_id in visible]
    names = ("provider", "state", "text", "since", "ends_at")
    lines = [
        {"shop": one.slug or None, "secrets": [secret._asdict() for secret in one.secrets]}
        | {name: getattr(one, name) for name in names}
        for one in every
    ]
    found = _choose(lines, {"state": STATES})
    return _answer({"at": g.at, "connections": found}) if isinstance(found, list) else found


def _list_dead() -> Response | Answer:
    with transaction() as tx:
        groups = list_dead_groups(tx, g.access.shops_with(Role.VIEWER), MAX_CANDIDATES, MAX_ROWS)
        slugs = find_visible_slugs(tx, g.access)
    names = ("topic", "error_code", "count", "oldest", "newest")
    lines = [
        {"shop": slugs.get(one.shop_id) if one.shop_id else None}
        | {name: getattr(one, name) for name in names}
        for one in groups
    ]
    found = _choose(lines, {})
    return _answer({"at": g.at, "dead": found}) if isinstance(found, list) else found


def _show_queues(reader: QueueReader) -> Response | Answer:
    reading = reader.read()
    lines = list_queue_lines(reading) if reading else []
    if reading is None or not lines:
        return _too_slow("the queues")
    documents = [
        _describe_queue(line)
        | {"has_worker": line.has_worker, "topics": [_describe_queue(topic) for topic in topics]}
        for line, topics in lines
    ]
    with transaction() as tx:
        pauses, backoffs = list_visible_pauses(tx), list_backoffs(tx)
        slugs = find_visible_slugs(tx, g.access)
    in_force = {
        "pauses": [_describe_pause(one, slugs) for one in pauses],
        "backoffs": [
            {"topic": one.topic, "factor": one.factor}
            | {"since": one.created_at, "by": one.created_by, "reason": one.reason}
            for one in backoffs
        ],
    }
    return _answer({"at": reading.at, "queues": documents, **in_force})


def _describe_pause(pause: Pause, slugs: Mapping[int, str]) -> dict[str, Any]:
    scope = {"queue": pause.scope.queue, "topic": pause.scope.topic, "cost": pause.scope.cost}
    shop = slugs.get(pause.scope.shop_id) if pause.scope.shop_id else None
    author = {"since": pause.created_at, "by": pause.created_by, "reason": pause.reason}
    return {"id": pause.id, "shop": shop, "mode": pause.mode, "until": pause.ends_at} | scope | author


def _show_jobs(reader: JobsReader) -> Response | Answer:
    reading = reader.read()
    if reading is None:
        return _too_slow("the jobs")
    visible = g.access.shops_with(Role.VIEWER)
    places = [
        _describe_place(line) for line in reading.lines if visible is None or line.schedule.shop_id in visible
    ]
    found = _choose(places, {"job": {place["job"] for place in places}, "state": JOB_STATES})
    return _answer({"at": reading.at, "jobs": found}) if isinstance(found, list) else found


def _choose(
    lines: Sequence[dict[str, Any]], allowed: Mapping[str, Collection[str]]
) -> list[dict[str, Any]] | Answer:
    """Return the lines that the filters of the request choose, or 422: ``shop`` and those ``allowed``."""
    values = {"shop": {line["shop"] for line in lines} - {None}, **allowed}
    for name, value in request.args.items():
        if name not in values or value not in values[name]:
            detail = describe_unknown(value if name in values else name, sorted(values.get(name, values)))
            return json_error(422, "invalid_filter", f"{name if name in values else 'filter'} {detail}")
        lines = [line for line in lines if line[name] == value]
    return [*lines]


def _describe_queue(line: QueueLine) -> dict[str, Any]:
    return {
        "name": line.name,
        "ready": line.ready,
        "locked": line.locked,
        "retrying": line.retrying,
        "dead": line.dead,
        "oldest_seconds": line.oldest,
        "done_per_minute": line.done_per_minute,
        "failed_per_minute": line.failed_per_minute,
        "last_seconds": line.last,
    }


def _describe_place(line: JobPlaceLine) -> dict[str, Any]:
    one = line.schedule
    return {
        "job": one.job.name,
        "shop": one.slug or None,
        "state": line.state,
        "open_runs": line.open_runs,
        "schedule": one.schedule,
        "timezone": one.zone,
        "is_enabled": one.enabled,
        "next_due_at": one.next_due_at,
    }


def _too_slow(what: str) -> Answer:
    return json_error(503, "unavailable", f"{what} could not be read in time: try again")


def _answer(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), mimetype="application/json")
