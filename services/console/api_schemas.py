"""OpenAPI schemas of the answers that are not lists of rows: scan, queues, jobs, reports, letters. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from services.core.fields import LARGEST_ID

Document = dict[str, Any]

NUMBER: Document = {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}
TEXT: Document = {"type": ["string", "null"]}
STRING: Document = {"type": "string"}


def make_object(properties: Document) -> Document:
    """Return the schema of an object that has all of ``properties``."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _list_of(name: str, properties: Document) -> Document:
    return make_object({"at": {"type": "string"}, name: {"type": "array", "items": make_object(properties)}})


_FIGURES: Document = {
    "name": STRING,
    **{name: {"type": "integer"} for name in ("ready", "locked", "retrying", "dead")},
    **{name: {"type": "number"} for name in ("done_per_minute", "failed_per_minute")},
    **{name: {"type": ["number", "null"]} for name in ("oldest_seconds", "last_seconds")},
}
_PLACE: Document = {
    **dict.fromkeys(("job", "schedule", "timezone"), STRING),
    "shop": TEXT | {"description": "the shop's slug; null: the fleet"},
    "state": STRING,
    "open_runs": {"type": "integer"},
    "is_enabled": {"type": "boolean"},
    "next_due_at": TEXT,
}
_TOPICS = {"type": "array", "items": make_object(_FIGURES)}
STRINGS = {"type": "array", "items": STRING}
_VERDICT = make_object(dict.fromkeys(("state", "text", "why"), STRING))
_CELL = make_object({"state": STRING, "text": STRING, "since": TEXT, "path": STRING})
_SCAN: Document = {
    "shop": TEXT | {"description": "the shop's slug; null: the fleet"},
    **dict.fromkeys(("name", "timezone", "state"), STRING),
    "cells": {"type": "object", "additionalProperties": _CELL},
}
_REPORT: Document = {
    "id": NUMBER,
    **dict.fromkeys(("shop", "name", "kind", "schedule", "covers", "overtime", "week_begins"), STRING),
    "recipients": STRINGS,
    "formats": STRINGS,
    "filters": {"type": "object"},
    "day_begins": {"type": "integer"},
    "is_paused": {"type": "boolean"},
    **dict.fromkeys(("last_period", "last_status", "last_error_code"), TEXT),
}
_LETTER: Document = {
    "id": NUMBER,
    **dict.fromkeys(
        ("shop", "version", "state", "week", "subject", "body", "reason", "drafted_at", "send_at"), STRING
    ),
    **dict.fromkeys(("sent_at", "error_code"), TEXT),
}
_TIMES = dict.fromkeys(("recorded_at", "previous_until", "used_at", "previous_used_at"), TEXT)
_CONNECTION: Document = {
    "shop": TEXT | {"description": "the shop's slug; null: the fleet"},
    **dict.fromkeys(("provider", "state", "text"), STRING),
    **dict.fromkeys(("since", "ends_at"), TEXT),
    "secrets": {"type": "array", "items": make_object({"name": STRING, **_TIMES})},
}
_DEAD: Document = {
    "shop": TEXT | {"description": "the shop's slug; null: the fleet"},
    **dict.fromkeys(("topic", "error_code", "oldest", "newest"), STRING),
    "count": {"type": "integer"},
}


_PLANNED_CHANGE: Document = {
    "id": NUMBER,
    "shop": TEXT | {"description": "the shop's slug; null: the letters of all shops"},
    **dict.fromkeys(("planned_on", "text", "added_by"), STRING),
}
_PAUSE: Document = {
    "id": NUMBER,
    **dict.fromkeys(("queue", "topic", "cost", "mode", "since", "by", "reason"), STRING),
    "shop": TEXT | {"description": "the shop's slug; null: all shops"},
    "until": TEXT,
}
_BACKOFF: Document = {
    **dict.fromkeys(("topic", "since", "by", "reason"), STRING),
    "factor": {"type": "number"},
}
_OBJECT: Document = {"type": "object"}
_OBJECTS: Document = {"type": "array", "items": _OBJECT}
_SHOP_DETAIL: Document = {
    **dict.fromkeys(("at", "shop", "created_at"), STRING),
    "settings": {"type": "object", "additionalProperties": STRING},
    "last_run": _OBJECT,
    "staff": _OBJECT | {"description": "name by number at Shopify; empty without the role admin"},
    **dict.fromkeys(
        ("days", "budgets", "connections", "secrets", "schedules", "thresholds", "months"), _OBJECTS
    ),
    "failed_runs": {"type": "integer", "description": "in 7 days"},
}
_ERROR_DETAIL: Document = {
    **dict.fromkeys(("request_id", "at", "route", "error_class", "reason", "staff_label"), STRING),
    "shop": TEXT | {"description": "the shop's slug; null: the fleet"},
    "status": {"type": "integer"},
    "request": _OBJECT,
    "mutations": _OBJECTS | {"description": "changes under this request id that were committed"},
    "event_id": {"type": ["integer", "null"], "description": "the webhook, if it came again"},
}


class Reading(NamedTuple):
    """An answer to GET without a list of rows. ``filters``: its parameters."""

    operation: str
    text: str
    answer: Document
    filters: list[Document]


def describe_place(name: str, text: str) -> Document:
    """Return the parameter ``{name}`` of a path."""
    return {"name": name, "in": "path", "required": True, "description": text, "schema": STRING}


SHOP = describe_place("shop", "The shop's slug.")


def _filter(name: str) -> Document:
    return {"name": name, "in": "query", "description": f"Only this {name}.", "schema": STRING}


_SHOP, _JOB, _STATE = map(_filter, ("shop", "job", "state"))
READINGS: Mapping[str, Reading] = MappingProxyType(
    {
        "queues": Reading(
            "show_queues",
            "Figures of each queue and topic, pauses and longer backoffs.",
            make_object(
                {
                    **_list_of("queues", {**_FIGURES, "has_worker": {"type": "boolean"}, "topics": _TOPICS})[
                        "properties"
                    ],
                    "pauses": {"type": "array", "items": make_object(_PAUSE)},
                    "backoffs": {"type": "array", "items": make_object(_BACKOFF)},
                }
            ),
            [],
        ),
        "jobs": Reading(
            "show_jobs",
            "Jobs at each place, the worst first.",
            _list_of("jobs", _PLACE),
            [_SHOP, _JOB, _STATE],
        ),
        "scan": Reading(
            "show_scan",
            "The morning scan, the fleet first, then the worst shops.",
            make_object({"verdict": _VERDICT, **_list_of("shops", _SCAN)["properties"]}),
            [_SHOP, _STATE],
        ),
        "reports": Reading(
            "list_reports", "Scheduled reports and their last result.", _list_of("reports", _REPORT), [_SHOP]
        ),
        "connections": Reading(
            "list_connections",
            "Each shop's providers and the ages of its secrets, never a value; the worst first.",
            _list_of("connections", _CONNECTION),
            [_SHOP, _STATE],
        ),
        "dead": Reading(
            "list_dead",
            "Dead work in groups by topic, shop and error code, the largest first.",
            _list_of("dead", _DEAD),
            [_SHOP],
        ),
        "letters": Reading(
            "list_letters", "Letters to owners, the newest week first.", _list_of("letters", _LETTER), [_SHOP]
        ),
        "letters/planned": Reading(
            "list_planned",
            "Planned changes of today and later, which letters announce.",
            _list_of("planned", _PLANNED_CHANGE),
            [_SHOP],
        ),
        "shops/{shop}": Reading(
            "show_shop",
            "One shop: settings, last night, figures of 7 days, budgets, connections, ages of secrets, "
            "schedules, thresholds and closed months. Its incidents, mails and reports are in their lists.",
            make_object(_SHOP_DETAIL),
            [SHOP],
        ),
        "errors/{request_id}": Reading(
            "show_error",
            "One request that was answered with 5xx, and the changes that it made.",
            make_object(_ERROR_DETAIL),
            [describe_place("request_id", "The X-Request-Id of the answer.")],
        ),
    }
)
"""Last part of the path -> the reading."""
