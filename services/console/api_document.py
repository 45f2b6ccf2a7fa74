"""The part of the OpenAPI document about what has no list of rows, single rows and actions. Pure."""

from collections.abc import Mapping
from typing import Any

from services.bulk.kinds import KINDS
from services.bulk.store import LONGEST_KEY
from services.console.list_page import MAX_CANDIDATES
from services.console.row_actions import ROW_ACTIONS
from services.core.fields import LARGEST_ID, LONGEST_TEXT
from services.outreach.people import ImportCounts
from services.outreach.person import COLUMNS, MAX_PEOPLE, REQUIRED

Document = dict[str, Any]

_NUMBER = {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}
_ID = {
    "name": "number",
    "in": "path",
    "required": True,
    "description": "The id of the row.",
    "schema": _NUMBER,
}
_KEY: Document = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A second start with the same key answers with the first action.",
    "schema": {"type": "string", "pattern": f"^[!-~]{{1,{LONGEST_KEY}}}$"},
}
_TEXT = {"type": ["string", "null"]}
_REASON = {"type": "string", "maxLength": LONGEST_TEXT, "description": "for the audit"}
_COUNTS = {"type": "object", "additionalProperties": {"type": "integer"}}
_DONE = {"type": "object", "required": ["result"], "properties": {"result": {"type": "string"}}}

DETAILS: Mapping[str, Document] = {
    "work": {"last_error": _TEXT, "result": _TEXT, "event_id": {"type": ["integer", "null"]}, "payload": {}},
    "events": {"headers": {"type": "object"}, "payload": {}, "work": {"type": "array"}},
    "incidents": {"entries": {"type": "array", "items": {"type": "object"}}},
    "bulk_actions": {
        "filters": {"type": "object"},
        "skipped": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "ids, as ranges, by cause; for shops where nothing is changed their number",
        },
        "ended_at": _TEXT,
        "error": {"type": "string"},
    },
}
"""What the answer for a single row has in addition to the columns of its list."""

_DRY_RUN = {"type": "boolean", "description": "answers with the counts, and changes nothing"}
_START = {
    "type": "object",
    "required": ["list", "action", "filters"],
    "additionalProperties": False,
    "properties": {
        "list": {"enum": sorted({kind.list for kind in KINDS.values()})},
        "action": {"enum": list(KINDS)},
        "filters": {"type": "object", "additionalProperties": {"type": "string"}},
        "reason": _REASON,
        "dry_run": _DRY_RUN,
        "at_most": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_CANDIDATES,
            "description": "refuses if more rows match",
        },
    },
}
_PLAN = {
    "type": "object",
    "required": ["count", "counts", "skipped"],
    "properties": {
        "count": {"type": "integer"},
        "counts": {"type": "object", "additionalProperties": _COUNTS},
        "skipped": _COUNTS,
    },
}
_FAULTS = {
    "401": "no API token, or one that ended",
    "403": "the token's role is too low, or the role at the shop",
    "404": "there is no such row, or no role at its shop",
    "409": "the state of the row does not allow it",
    "422": "a value is wrong",
    "503": "the database cannot be reached",
}
_BULK = "/api/v1/bulk-actions"


_STRING = {"type": "string"}
_PERSON = {
    "type": "object",
    "required": list(REQUIRED),
    "additionalProperties": False,
    "properties": {name: _STRING if name in REQUIRED else _TEXT for name in COLUMNS},
}
_PEOPLE = {
    "type": "object",
    "required": ["people"],
    "additionalProperties": False,
    "properties": {
        "people": {"type": "array", "minItems": 1, "maxItems": MAX_PEOPLE, "items": _PERSON},
        "dry_run": _DRY_RUN,
    },
}
_SHOP = {
    "name": "shop",
    "in": "path",
    "required": True,
    "description": "The shop's slug.",
    "schema": _STRING,
}
_FIGURES: Document = {
    "name": _STRING,
    **{name: {"type": "integer"} for name in ("ready", "locked", "retrying", "dead")},
    **{name: {"type": "number"} for name in ("done_per_minute", "failed_per_minute")},
    **{name: {"type": ["number", "null"]} for name in ("oldest_seconds", "last_seconds")},
}
_PLACE: Document = {
    **dict.fromkeys(("job", "schedule", "timezone"), _STRING),
    "shop": _TEXT | {"description": "the shop's slug; null: the fleet"},
    "state": _STRING,
    "open_runs": {"type": "integer"},
    "is_enabled": {"type": "boolean"},
    "next_due_at": _TEXT,
}


def _object(properties: Document) -> Document:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list_of(name: str, properties: Document) -> Document:
    return _object({"at": {"type": "string"}, name: {"type": "array", "items": _object(properties)}})


_TOPICS = {"type": "array", "items": _object(_FIGURES)}
_STRINGS = {"type": "array", "items": _STRING}
_VERDICT = _object(dict.fromkeys(("state", "text", "why"), _STRING))
_CELL = _object({"state": _STRING, "text": _STRING, "since": _TEXT, "path": _STRING})
_SCAN: Document = {
    "shop": _TEXT | {"description": "the shop's slug; null: the fleet"},
    **dict.fromkeys(("name", "timezone", "state"), _STRING),
    "cells": {"type": "object", "additionalProperties": _CELL},
}
_REPORT: Document = {
    "id": _NUMBER,
    **dict.fromkeys(("shop", "name", "kind", "schedule", "covers", "overtime", "week_begins"), _STRING),
    "recipients": _STRINGS,
    "formats": _STRINGS,
    "filters": {"type": "object"},
    "day_begins": {"type": "integer"},
    "is_paused": {"type": "boolean"},
    **dict.fromkeys(("last_period", "last_status", "last_error_code"), _TEXT),
}
_LETTER: Document = {
    "id": _NUMBER,
    **dict.fromkeys(("shop", "state", "week", "subject", "body", "reason", "drafted_at", "send_at"), _STRING),
    **dict.fromkeys(("sent_at", "error_code"), _TEXT),
}
_READINGS: Document = {
    "scan": _object({"verdict": _VERDICT, **_list_of("shops", _SCAN)["properties"]}),
    "reports": _list_of("reports", _REPORT),
    "letters": _list_of("letters", _LETTER),
    "queues": _list_of("queues", {**_FIGURES, "has_worker": {"type": "boolean"}, "topics": _TOPICS}),
    "jobs": _list_of("jobs", _PLACE),
}


_FILTERS = {"type": "object", "additionalProperties": _STRING}
_SAVED: Document = _object(
    {
        "id": _NUMBER,
        **dict.fromkeys(("list", "name"), _STRING),
        "filters": _FILTERS,
        "is_shared": {"type": "boolean"},
    }
)
_SAVED_PATH = "/api/v1/saved-filters"


def _describe_saved() -> dict[str, Document]:
    body = _object({"list": _STRING, "name": _STRING, "filters": _FILTERS}) | {"additionalProperties": False}
    save = _operation("save_filter", "Save filters of a list under a name.", _SAVED, [], body)
    save["responses"]["201"] = save["responses"].pop("200")
    every = _object({"saved_filters": {"type": "array", "items": _SAVED}})
    share = _operation("share_filter", "Share an own filter with everybody.", _DONE, [_ID])
    delete = _operation("delete_filter", "Delete an own filter, or a shared one.", _DONE, [_ID])
    return {
        _SAVED_PATH: {
            "get": _operation("list_filters", "Own saved filters and shared ones.", every, []),
            "post": save,
        },
        f"{_SAVED_PATH}/{{number}}/delete": {"post": delete},
        f"{_SAVED_PATH}/{{number}}/share": {"post": share},
    }


def describe_paths(rows: Mapping[str, str]) -> dict[str, Document]:
    """Return the operations by path and method. ``rows``: the last part of a list's path, by name."""
    filters = [
        {"name": name, "in": "query", "description": f"Only this {name}.", "schema": _STRING}
        for name in ("shop", "job", "state")
    ]
    paths: dict[str, Document] = {
        "/api/v1/queues": {
            "get": _operation("show_queues", "Figures of each queue and topic.", _READINGS["queues"], [])
        },
        "/api/v1/jobs": {
            "get": _operation("show_jobs", "Jobs at each place, the worst first.", _READINGS["jobs"], filters)
        },
        "/api/v1/scan": {
            "get": _operation(
                "show_scan",
                "The morning scan, the fleet first, then the worst shops.",
                _READINGS["scan"],
                [filters[0], filters[2]],
            )
        },
        "/api/v1/reports": {
            "get": _operation(
                "list_reports", "Scheduled reports and their last result.", _READINGS["reports"], filters[:1]
            )
        },
        "/api/v1/letters": {
            "get": _operation(
                "list_letters", "Letters to owners, the newest week first.", _READINGS["letters"], filters[:1]
            )
        },
    }
    for name, path in rows.items():
        if name in DETAILS:
            text = "One row; texts of payloads are masked."
            paths[f"/api/v1/{path}/{{number}}"] = {
                "get": _operation(f"show_{name}", text, detail_ref(name), [_ID])
            }
    for action in ROW_ACTIONS:
        body = {
            "type": "object",
            "properties": {"reason": _REASON},
            "additionalProperties": False,
            **({"required": ["reason"]} if action.needs_reason else {}),
        }
        made = _operation(
            action.endpoint, action.summary, _DONE, [_ID], body, is_required=action.needs_reason
        )
        paths[f"/api/v1/{action.list}/{{number}}/{action.name}"] = {"post": made}
    result = detail_ref("bulk_actions")
    start = _operation("start_bulk_action", "Start an action on all rows that match.", _PLAN, [_KEY], _START)
    start["responses"]["201"] = _response("The action.", result)
    paths[_BULK] = {"post": start}
    stop = _operation("stop_bulk_action", "Stop a running action; what it changed stays.", result, [_ID])
    paths[f"{_BULK}/{{number}}/stop"] = {"post": stop}
    text = f"Import up to {MAX_PEOPLE:,} people who get reminders, with their activity and consents."
    imported = _object({name: {"type": "integer"} for name in ImportCounts._fields})
    made = _operation("import_people", text, imported, [_SHOP], _PEOPLE)
    return paths | {"/api/v1/shops/{shop}/people": {"post": made}} | _describe_saved()


def detail_ref(name: str) -> Document:
    """Return the reference to the schema of a single row of the list ``name``."""
    return {"$ref": f"#/components/schemas/{detail_schema(name)}"}


def detail_schema(name: str) -> str:
    """Return the name of the schema of a single row."""
    return "One" + name.title().replace("_", "")


def _operation(
    operation_id: str,
    summary: str,
    answer: Document,
    parameters: list[Document],
    body: Document | None = None,
    *,
    is_required: bool = True,
) -> Document:
    fault = {"$ref": "#/components/schemas/Error"}
    made: Document = {
        "operationId": operation_id,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": _response("What was found or done.", answer),
            **{code: _response(text, fault) for code, text in _FAULTS.items()},
        },
    }
    if body is not None:
        made["requestBody"] = {"required": is_required, "content": {"application/json": {"schema": body}}}
    return made


def _response(text: str, schema: Document) -> Document:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def render_operations(paths: Mapping[str, Document]) -> list[str]:
    """Return the lines of ``docs/api.md`` about these operations."""
    lines = [
        "## Scan, queues, jobs, reports, letters, rows, actions and saved filters",
        "",
        "| operation | does | body |",
        "| --- | --- | --- |",
    ]
    for path, methods in paths.items():
        for method, made in methods.items():
            schema = (
                made.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            )
            required = schema.get("required", ())
            fields = ", ".join(
                f"`{name}`{'' if name in required else ' (optional)'}"
                for name in schema.get("properties", ())
            )
            lines.append(f"| `{method.upper()} {path}` | {made['summary']} | {fields} |")
    return lines
