"""The lists of the console: one row for each in ``LISTS``."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, FromClause, Select, Table, case, func, select, union_all
from sqlalchemy.dialects.postgresql import JSONB

from services.alerts.incidents import SEVERITIES
from services.alerts.tables import incidents
from services.audit.tables import audit_events
from services.console.list_page import (
    MAX_CANDIDATES,
    ListColumn,
    ListFilter,
    ListPage,
    Values,
    by_content,
    by_part,
    by_shop,
    by_time,
    by_value,
)
from services.core.clock import utc_now
from services.jobs.history import STATUSES as RUN_STATUSES
from services.jobs.tables import job_runs
from services.ledger.replay import COPIES
from services.ledger.request_errors import list_recorded
from services.ledger.tables import STATUSES, inbound_events, request_errors, work_queue
from services.ledger.topics import QUEUES, TOPICS
from services.providers.registry import WEBHOOK_PROVIDERS

_OPEN, _GIVEN_UP = frozenset({"pending", "error"}), frozenset({"dead", "discarded"})
INCIDENT_STATES = ("open", "acknowledged", "snoozed", "resolved")


def _newest(tx: Connection, table: Table, values: Values, at: str) -> Select[Any]:
    """Return the newest rows, from the cursor or ``until`` on; ids are in the order of time."""
    found = select(table).order_by(table.c.id.desc()).limit(MAX_CANDIDATES)
    if "until" in values:
        found = found.where(table.c.id <= _find_last_id(tx, table, at, values["until"]))
    if "after" in values:
        found = found.where(table.c.id < values["after"][0])
    return found


def _find_last_id(tx: Connection, table: Table, at: str, before: Any) -> int:
    """Return a number from which on all rows are of ``before`` or later: a search by halves."""
    low, high = 0, tx.execute(select(func.max(table.c.id))).scalar() or 0
    while low < high:
        middle = (low + high) // 2
        next_row = (
            select(table.c.id, table.c[at].label("at"))
            .where(table.c.id > middle)
            .order_by(table.c.id)
            .limit(1)
        )
        row = tx.execute(next_row).one()
        if row.at < before:
            low = int(row.id)
        else:
            high = middle
    return low


def _find_work(tx: Connection, values: Values) -> Select[Any]:
    statuses = frozenset(values.get("status", ()))
    column = work_queue.c
    if statuses and statuses <= _OPEN:  # two partial indexes
        is_open = select(work_queue).where(column.status.in_(("pending", "error"))).limit(MAX_CANDIDATES)
        both = union_all(
            is_open.where(column.locked_at.is_(None)), is_open.where(column.locked_at.is_not(None))
        ).subquery()
        return select(both)
    if statuses and statuses <= _GIVEN_UP:
        given_up = select(work_queue).where(column.status.in_(("dead", "discarded")))
        return given_up.where(column.status.in_(sorted(statuses))).limit(MAX_CANDIDATES)
    return _newest(tx, work_queue, values, "created_at")


def _find_events(tx: Connection, values: Values) -> Select[Any]:
    return _newest(tx, inbound_events, values, "received_at")


def _find_incidents(_tx: Connection, values: Values) -> Select[Any]:
    column = incidents.c
    state = case(
        (column.status == "resolved", "resolved"),
        (column.snoozed_until > utc_now(), "snoozed"),
        (column.acknowledged_at.is_not(None), "acknowledged"),
        else_="open",
    )
    found = select(incidents, state.label("state")).limit(MAX_CANDIDATES)
    wanted = values.get("state", ())
    if wanted and "resolved" not in wanted:
        return found.where(column.status == "open")
    return found.order_by(column.id.desc())


def _find_errors(_tx: Connection, _values: Values) -> Select[Any]:
    return select(request_errors).order_by(request_errors.c.at.desc()).limit(MAX_CANDIDATES)


def _find_entries(tx: Connection, values: Values) -> Select[Any]:
    return _newest(tx, audit_events, values, "at")


def _has_table(rows: FromClause, value: Any) -> ColumnElement[bool]:
    """Match the whole name of a table in ``mutations_text``: no part of a value, which is not shown."""
    return func.strpos(rows.c.mutations, f'"table_name":{orjson.dumps(value).decode()}') > 0


def _find_runs(tx: Connection, values: Values) -> Select[Any]:
    return _newest(tx, job_runs, values, "due_at")


def _fixed(values: Sequence[str]) -> Any:
    return lambda _tx: values


def _list_providers(_tx: Connection) -> Sequence[str]:
    return list(WEBHOOK_PROVIDERS)


WORK = ListPage(
    name="work",
    title="Work",
    about="What webhooks, jobs and people caused: one row for each effect.",
    columns=(
        ListColumn("id", "Id", "number"),
        ListColumn("shop_id", "Shop", "shop"),
        ListColumn("topic", "Topic"),
        ListColumn("key", "Key", "code"),
        ListColumn("status", "Status", "state"),
        ListColumn("retry_count", "Tries", "number"),
        ListColumn("created_at", "Created", "time"),
        ListColumn("next_retry_at", "Next try", "time"),
        ListColumn("error_code", "Error", "code"),
        ListColumn("origin", "Origin"),
    ),
    filters=(
        by_shop(),
        by_value("queue", "Queue", _fixed(QUEUES)),
        by_value("topic", "Topic", lambda _tx: list(TOPICS)),
        by_value("status", "Status", _fixed(STATUSES)),
        by_value("error_code", "Error code"),
        by_value("key", "Key, such as an order"),
        by_value("origin", "Origin"),
        *by_time("created_at"),
        *by_content("payload", lambda rows: rows.c.payload),
    ),
    candidates=_find_work,
    table="work_queue",
    facet="status",
    detail="details.work",
)

EVENTS = ListPage(
    name="events",
    title="Events",
    about="Webhooks as they were received. Archived ones are not here: fleet events show ID reads them.",
    columns=(
        ListColumn("id", "Id", "number"),
        ListColumn("received_at", "Received", "time"),
        ListColumn("shop_id", "Shop", "shop"),
        ListColumn("provider", "Provider"),
        ListColumn("topic", "Topic"),
        ListColumn("delivery_key", "Delivery", "code"),
        ListColumn("origin", "Origin"),
        ListColumn("duplicate_count", "Duplicates", "number"),
    ),
    filters=(
        by_shop(),
        by_value("provider", "Provider", _list_providers),
        by_value("topic", "Topic"),
        by_value("delivery_key", "Delivery"),
        by_value("origin", "Origin", _fixed(("webhook", "backfill", *COPIES))),
        by_value("request_id", "Request id"),
        *by_time("received_at"),
        *by_content("body", lambda rows: func.read_json(rows.c.body, type_=JSONB)),
    ),
    candidates=_find_events,
    table="inbound_events",
    facet="provider",
    detail="details.event",
)

INCIDENTS = ListPage(
    name="incidents",
    title="Incidents",
    about="What went wrong: one row for each shop, rule and period.",
    columns=(
        ListColumn("id", "Id", "number"),
        ListColumn("severity", "Severity", "state"),
        ListColumn("state", "State", "state"),
        ListColumn("shop_id", "Shop", "shop"),
        ListColumn("rule", "Rule"),
        ListColumn("opened_at", "Opened", "time"),
        ListColumn("acknowledged_by", "Holder"),
        ListColumn("summary", "Summary"),
    ),
    filters=(
        by_shop(),
        by_value("state", "State", _fixed(INCIDENT_STATES)),
        by_value("severity", "Severity", _fixed(SEVERITIES)),
        by_value("rule", "Rule"),
        *by_time("opened_at"),
    ),
    candidates=_find_incidents,
    facet="state",
    detail="details.incident",
)

ERRORS = ListPage(
    name="errors",
    title="Errors",
    about="Requests that were answered with 5xx.",
    columns=(
        ListColumn("request_id", "Request", "code"),
        ListColumn("at", "At", "time"),
        ListColumn("shop_id", "Shop", "shop"),
        ListColumn("route", "Route", "code"),
        ListColumn("status", "Status", "number"),
        ListColumn("error_class", "Class", "code"),
        ListColumn("staff_label", "Person"),
    ),
    filters=(
        by_shop(),
        by_value("error_class", "Class", lambda tx: list_recorded(tx, "error_class")),
        by_value("route", "Route", lambda tx: list_recorded(tx, "route")),
        by_value("request_id", "Request id"),
        *by_time("at"),
    ),
    candidates=_find_errors,
    order=("at", "request_id"),
    facet="error_class",
    detail="details.error",
    detail_key="request_id",
)

AUDIT = ListPage(
    name="audit",
    title="Audit",
    about="Who changed what, and when. fleet audit verify proves that nothing was altered.",
    columns=(
        ListColumn("id", "Id", "number"),
        ListColumn("at", "At", "time"),
        ListColumn("shop_id", "Shop", "shop"),
        ListColumn("staff_label", "Who"),
        ListColumn("action", "Action", "code"),
        ListColumn("mutations", "What", "summaries"),
    ),
    filters=(
        by_shop(),
        by_part("by", "Who", "staff_label"),
        by_part("action", "Action", "action"),
        ListFilter(name="table", label="Table", kind="text", condition=_has_table),
        by_value("request_id", "Request id"),
        *by_time("at"),
    ),
    candidates=_find_entries,
)

RUNS = ListPage(
    name="runs",
    title="Runs of jobs",
    about="When each job ran, for which period, and how it ended.",
    columns=(
        ListColumn("id", "Id", "number"),
        ListColumn("job", "Job"),
        ListColumn("shop_id", "Shop", "shop"),
        ListColumn("period", "Period"),
        ListColumn("status", "Status", "state"),
        ListColumn("due_at", "Due", "time"),
        ListColumn("started_at", "Started", "time"),
        ListColumn("ended_at", "Ended", "time"),
        ListColumn("error", "Error"),
    ),
    filters=(
        by_shop(),
        by_value("job", "Job"),
        by_value("status", "Status", _fixed(RUN_STATUSES)),
        by_value("period", "Period"),
        *by_time("due_at"),
    ),
    candidates=_find_runs,
    facet="status",
)

LISTS: Mapping[str, ListPage] = MappingProxyType(
    {page.name: page for page in (WORK, EVENTS, INCIDENTS, ERRORS, AUDIT, RUNS)}
)
"""By name, which is the path of the page and of the API."""
