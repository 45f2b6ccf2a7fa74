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
_STRINGS = {"type": "array", "items": STRING}
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
    "recipients": _STRINGS,
    "formats": _STRINGS,
    "filters": {"type": "object"},
    "day_begins": {"type": "integer"},
    "is_paused": {"type": "boolean"},
    **dict.fromkeys(("last_period", "last_status", "last_error_code"), TEXT),
}
_LETTER: Document = {
    "id": NUMBER,
    **dict.fromkeys(("shop", "state", "week", "subject", "body", "reason", "drafted_at", "send_at"), STRING),
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


class Reading(NamedTuple):
    """An answer to GET without a list of rows. ``filters``: parameters of the query."""

    operation: str
    text: str
    answer: Document
    filters: list[Document]


def _filter(name: str) -> Document:
    return {"name": name, "in": "query", "description": f"Only this {name}.", "schema": STRING}


class ApiChange(NamedTuple):
    """A change by POST. ``fields`` of the body and their schemas; an ``answer`` of None is a file."""

    operation: str
    path: str
    text: str
    fields: Document
    answer: Document | None
    required: tuple[str, ...] = ()


_DONE = make_object({"result": STRING})
_REASON = STRING | {"description": "for the audit"}
_PLANNED = _DONE | {"properties": {"result": STRING, "lines": _STRINGS}}
_DRY_RUN: Document = {"type": "boolean", "description": "answers with the effect, and changes nothing"}
_OF_SHOP = {"shop": STRING | {"description": "a shop's slug; empty: the fleet"}}
_HEADERS: Document = {"type": "object"}
CHANGES = (
    ApiChange(
        "change_queues",
        "/queues/change",
        "`act`: `pause` (`what` such as queue:email, `mode`, `lasts`), `resume` (`pause`, `rate`) or "
        "`backoff` (`topic`, `factor`).",
        {
            "act": {"enum": ["pause", "resume", "backoff"]},
            **dict.fromkeys(("what", "mode", "lasts", "rate", "topic"), STRING),
            **_OF_SHOP,
            "pause": NUMBER,
            "factor": {"type": "number"},
            "reason": _REASON,
            "dry_run": _DRY_RUN,
        },
        _PLANNED,
        ("act",),
    ),
    ApiChange(
        "change_job",
        "/jobs/{job}/change",
        "`act`: `run` (`period`, `again`), `pause`, `resume`, or `schedule` (admin).",
        {
            "act": {"enum": ["run", "pause", "resume", "schedule"]},
            **_OF_SHOP,
            "period": STRING,
            "again": {"type": "boolean"},
            "schedule": STRING,
            "reason": _REASON,
            "dry_run": _DRY_RUN,
        },
        _PLANNED,
        ("act",),
    ),
    ApiChange(
        "verify_audit",
        "/audit/verify",
        "Verify the chain of a shop from its last checkpoint on; without one, start the job for all chains.",
        _OF_SHOP,
        make_object({"result": STRING, "faults": _STRINGS}),
    ),
    ApiChange(
        "export_audit",
        "/audit/export",
        "The chain of a shop, or all chains, as `fleet audit export` writes it (admin).",
        _OF_SHOP,
        None,
    ),
    ApiChange(
        "send_report",
        "/reports/{number}/send",
        "Send a report of a period, once; without one, of the newest that is over.",
        {"period": STRING},
        _DONE,
    ),
    ApiChange(
        "unmask_work", "/work/{number}/unmask", "The payload (admin).", {}, make_object({"payload": {}})
    ),
    ApiChange(
        "unmask_event",
        "/events/{number}/unmask",
        "Headers and body (admin).",
        {},
        make_object({"headers": _HEADERS, "payload": {}}),
    ),
    ApiChange(
        "unmask_mail",
        "/mails/{number}/unmask",
        "Address, subject, headers and plain text (admin).",
        {},
        make_object({**dict.fromkeys(("recipient", "subject", "text"), STRING), "headers": _HEADERS}),
    ),
)
"""What a person changes or sees unmasked. Each is audited."""


_SHOP, _JOB, _STATE = map(_filter, ("shop", "job", "state"))
READINGS: Mapping[str, Reading] = MappingProxyType(
    {
        "queues": Reading(
            "show_queues",
            "Figures of each queue and topic.",
            _list_of("queues", {**_FIGURES, "has_worker": {"type": "boolean"}, "topics": _TOPICS}),
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
    }
)
"""Last part of the path -> the reading."""
