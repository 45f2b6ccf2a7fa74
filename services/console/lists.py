"""The lists of the console: one row for each in ``LISTS``."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, FromClause, func
from sqlalchemy.dialects.postgresql import JSONB

from services.alerts.incidents import SEVERITIES
from services.bulk.kinds import KINDS
from services.bulk.tables import STATUSES as BULK_STATUSES
from services.console.list_candidates import (
    find_bulk_actions,
    find_entries,
    find_errors,
    find_events,
    find_incidents,
    find_runs,
    find_work,
)
from services.console.list_page import (
    ListColumn,
    ListFilter,
    ListPage,
    by_content,
    by_part,
    by_shop,
    by_time,
    by_value,
)
from services.console.mail_lists import MAILS, PEOPLE, SENDS
from services.jobs.history import STATUSES as RUN_STATUSES
from services.ledger.replay import ORIGINS
from services.ledger.request_errors import list_recorded
from services.ledger.tables import STATUSES
from services.ledger.topics import QUEUES, TOPICS
from services.providers.registry import WEBHOOK_PROVIDERS

INCIDENT_STATES = ("open", "acknowledged", "snoozed", "resolved")


def _has_table(rows: FromClause, value: Any) -> ColumnElement[bool]:
    """Match the whole name of a table in ``mutations_text``: no part of a value, which is not shown."""
    return func.strpos(rows.c.mutations, f'"table_name":{orjson.dumps(value).decode()}') > 0


def _includes_shop(rows: FromClause, value: Any) -> ColumnElement[bool]:
    return rows.c.shop_ids.contains([value])


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
        *by_content("payload", lambda rows: rows.c.payload, lambda rows: func.pg_column_size(rows.c.payload)),
    ),
    candidates=find_work,
    table="work_queue",
    facet="status",
    detail="details.work",
    actions=("requeue", "discard", "unlock"),
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
        by_value("origin", "Origin", _fixed(ORIGINS)),
        by_value("request_id", "Request id"),
        *by_time("received_at"),
        *by_content(
            "body",
            lambda rows: func.read_json(rows.c.body, type_=JSONB),
            lambda rows: func.octet_length(rows.c.body),
        ),
    ),
    candidates=find_events,
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
    candidates=find_incidents,
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
    candidates=find_errors,
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
    candidates=find_entries,
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
    candidates=find_runs,
    facet="status",
)

BULK_ACTIONS = ListPage(
    name="bulk_actions",
    title="Bulk actions",
    about="What people did to all rows of a list that matched.",
    columns=(
        ListColumn("id", "Id", "number"),
        ListColumn("started_at", "Started", "time"),
        ListColumn("started_by", "Who"),
        ListColumn("action", "Action", "code"),
        ListColumn("list", "List"),
        ListColumn("shop_ids", "Shops", "shops"),
        ListColumn("status", "Status", "state"),
        ListColumn("total_count", "Rows", "number"),
        ListColumn("done_count", "Done", "number"),
        ListColumn("changed_count", "Changed", "number"),
        ListColumn("skipped_count", "Skipped", "number"),
        ListColumn("reason", "Reason"),
    ),
    filters=(
        ListFilter(name="shop", label="Shop", kind="shop", condition=_includes_shop),
        by_value("status", "Status", _fixed(BULK_STATUSES)),
        by_value("action", "Action", _fixed(tuple(KINDS))),
        by_part("by", "Who", "started_by"),
        *by_time("started_at"),
    ),
    candidates=find_bulk_actions,
    shop="shop_ids",
    facet="status",
    detail="bulk.show",
)

LISTS: Mapping[str, ListPage] = MappingProxyType(
    {
        page.name: page
        for page in (WORK, EVENTS, INCIDENTS, ERRORS, AUDIT, RUNS, BULK_ACTIONS, MAILS, PEOPLE, SENDS)
    }
)
"""By name, which is the path of the page and of the API."""
