"""The part of the OpenAPI document about what has no list of rows, single rows and actions. Pure."""

from collections.abc import Mapping

from services.accounts.roles import Role
from services.bulk.kinds import BY_FILTERS
from services.bulk.store import LONGEST_KEY
from services.console.api_change_schemas import CHANGES, ApiChange
from services.console.api_schemas import (
    NUMBER,
    READINGS,
    SHOP,
    STRING,
    TEXT,
    Document,
    describe_place,
    make_object,
)
from services.console.list_page import MAX_CANDIDATES
from services.console.row_actions import ROW_ACTIONS
from services.core.fields import LONGEST_TEXT
from services.outreach.people import ImportCounts
from services.outreach.person import COLUMNS, MAX_PEOPLE, REQUIRED

_ID = {
    "name": "number",
    "in": "path",
    "required": True,
    "description": "The id of the row.",
    "schema": NUMBER,
}
_KEY: Document = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A second request with the same key and body gets the first answer, for 10 minutes.",
    "schema": {"type": "string", "pattern": f"^[!-~]{{1,{LONGEST_KEY}}}$"},
}
_REASON = {"type": "string", "maxLength": LONGEST_TEXT, "description": "for the audit"}
_COUNTS = {"type": "object", "additionalProperties": {"type": "integer"}}
_DONE = {"type": "object", "required": ["result"], "properties": {"result": {"type": "string"}}}

DETAILS: Mapping[str, Document] = {
    "work": {"last_error": TEXT, "result": TEXT, "event_id": {"type": ["integer", "null"]}, "payload": {}},
    "events": {"headers": {"type": "object"}, "payload": {}, "work": {"type": "array"}},
    "incidents": {"snoozed_until": TEXT, "entries": {"type": "array", "items": {"type": "object"}}},
    "mails": {
        "last_error": TEXT,
        "is_stuck": {"type": "boolean", "description": "its outcome is unknown, and stays so"},
        "work_id": {"type": ["integer", "null"]},
        "events": {"type": "array", "items": {"type": "object"}},
    },
    "bulk_actions": {
        "filters": {"type": "object"},
        "skipped": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "ids, as ranges, by cause; for shops where nothing is changed their number",
        },
        "ended_at": TEXT,
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
        "list": {"enum": sorted({kind.list for kind in BY_FILTERS.values()})},
        "action": {"enum": list(BY_FILTERS)},
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
    "503": "the database, a provider or a store cannot be reached",
}
_BULK = "/api/v1/bulk-actions"


_PERSON = {
    "type": "object",
    "required": list(REQUIRED),
    "additionalProperties": False,
    "properties": {name: STRING if name in REQUIRED else TEXT for name in COLUMNS},
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
_PLACES = {
    "number": _ID,
    "shop": SHOP,
    "job": describe_place("job", "The name of the job."),
    "period": describe_place("period", "The month, such as 2026-10."),
}
_FILTERS = {"type": "object", "additionalProperties": STRING}
_SAVED: Document = make_object(
    {
        "id": NUMBER,
        **dict.fromkeys(("list", "name"), STRING),
        "filters": _FILTERS,
        "is_shared": {"type": "boolean"},
    }
)
_SAVED_PATH = "/api/v1/saved-filters"


def _describe_saved() -> dict[str, Document]:
    body = make_object({"list": STRING, "name": STRING, "filters": _FILTERS}) | {
        "additionalProperties": False
    }
    save = _operation("save_filter", "Save filters of a list under a name.", _SAVED, [], body)
    save["responses"]["201"] = save["responses"].pop("200")
    every = make_object({"saved_filters": {"type": "array", "items": _SAVED}})
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
    paths: dict[str, Document] = {
        f"/api/v1/{name}": {"get": _operation(one.operation, one.text, one.answer, one.filters)}
        for name, one in READINGS.items()
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
            "properties": {"reason": _REASON}
            | {name: {"enum": [*values]} if values else STRING for name, values in action.fields.items()},
            "additionalProperties": False,
            **({"required": ["reason"]} if action.needs_reason else {}),
        }
        made = _operation(
            action.endpoint, action.summary, _DONE, [_ID], body, is_required=action.needs_reason
        )
        paths[f"/api/v1/{action.list}/{{number}}/{action.name}"] = {"post": made}
    result = detail_ref("bulk_actions")
    start = _operation("start_bulk_action", "Start an action on all rows that match.", _PLAN, [], _START)
    start["responses"]["201"] = _response("The action.", result)
    paths[_BULK] = {"post": start}
    stop = _operation("stop_bulk_action", "Stop a running action; what it changed stays.", result, [_ID])
    paths[f"{_BULK}/{{number}}/stop"] = {"post": stop}
    text = f"Import up to {MAX_PEOPLE:,} people who get reminders, with their activity and consents."
    imported = make_object({name: {"type": "integer"} for name in ImportCounts._fields})
    made = _operation("import_people", text, imported, [SHOP], _PEOPLE)
    paths |= {"/api/v1/shops/{shop}/people": {"post": made}} | _describe_saved()
    for change in CHANGES:
        paths.setdefault(f"/api/v1{change.path}", {})["post"] = _describe_change(change)
    for methods in paths.values():
        if "post" in methods:
            methods["post"]["parameters"] = [*methods["post"]["parameters"], _KEY]
    return paths


def _describe_change(change: ApiChange) -> Document:
    parameters = [one for name, one in _PLACES.items() if f"{{{name}}}" in change.path]
    body = {"type": "object", "properties": change.fields, "additionalProperties": False}
    if change.required:
        body["required"] = [*change.required]
    made = _operation(
        change.operation,
        change.text if change.role == Role.OPERATOR else f"{change.text} Needs the role {change.role.title}.",
        change.answer or {},
        parameters,
        body,
        is_required=bool(change.required),
    )
    if change.answer is None:
        made["responses"]["200"] = {"description": "A file.", "content": {"application/octet-stream": {}}}
    return made


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
        "## Single rows, figures and changes",
        "",
        "| operation | does | body |",
        "| --- | --- | --- |",
    ]
    for path, methods in sorted(paths.items()):
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
