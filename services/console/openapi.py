"""The OpenAPI document of the API, made from ``LISTS``. Pure.

Source: https://spec.openapis.org/oas/v3.1.0
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from services.accounts.roles import Role
from services.console.api_document import DETAILS, describe_paths, detail_schema, render_operations
from services.console.list_page import ListColumn, ListFilter, ListPage
from services.console.lists import LISTS

MAX_ROWS = 500
_TYPES: dict[str, dict[str, Any]] = {
    "number": {"type": ["integer", "null"], "format": "int64"},
    "time": {"type": ["string", "null"], "format": "date-time", "description": "UTC"},
    "shop": {"type": ["string", "null"], "description": "the shop's slug; null: the fleet"},
    "shops": {
        "type": "array",
        "items": {"type": ["string", "null"]},
        "description": "slugs; null: the fleet",
    },
    "mail": {"type": ["integer", "null"], "format": "int64", "description": "the id of a mail"},
    "address": {"type": "string", "description": "masked if it is a mail address"},
    "summaries": {"type": "array", "items": {"type": "string"}},
}
_LIMIT = {"type": "integer", "minimum": 1, "maximum": MAX_ROWS, "default": 50}
_IS_COUNTED = "false: there may be more than `count`: rows beyond 10,000, or rows that were not searched"
_TOO_LARGE = "rows that were not searched for text or path, because they are larger than 1 MiB"
_TEXT = {"type": ["string", "null"]}
_ERROR = {
    "type": "object",
    "required": ["error", "detail"],
    "properties": {
        "error": {"type": "string", "description": "a stable code"},
        "detail": {
            "type": "string",
            "description": "what is wrong with which value, and what would be right",
        },
    },
}
_FAULTS = {
    "401": "no API token, or one that ended",
    "403": "the token's role is too low",
    "422": "a filter is unknown or has a value that does not exist",
    "503": "the database cannot be reached",
}


_PATHS = {name: page.path for name, page in LISTS.items()}


def make_openapi() -> dict[str, Any]:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Shopfleet", "version": "1", "description": "Lists and actions of the console."},
        "security": [{"token": []}],
        "paths": make_paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "sf_..."}},
            "schemas": {
                "Error": _ERROR,
                **{_schema(page): _describe_row(page) for page in LISTS.values()},
                **{detail_schema(name): _describe_row(LISTS[name], more) for name, more in DETAILS.items()},
            },
        },
    }


def make_paths() -> dict[str, dict[str, Any]]:
    """Return the operations by path and method."""
    paths = {f"/api/v1/{page.path}": {"get": _describe(page)} for page in LISTS.values()}
    for path, methods in describe_paths(_PATHS).items():
        paths[path] = paths.get(path, {}) | methods
    return paths


def _describe(page: ListPage) -> dict[str, Any]:
    return {
        "operationId": f"list_{page.name}",
        "summary": page.title,
        "description": page.about,
        "parameters": [
            *(_parameter(one) for one in page.filters),
            _query("limit", f"Most rows, at most {MAX_ROWS}; 50 if not given.", _LIMIT),
            _query("after", "The `next` of the page before.", {"type": "string"}),
        ],
        "responses": {
            "200": {
                "description": "The newest rows that match, and how many there are.",
                "content": {"application/json": {"schema": _describe_answer(page)}},
            },
            **{code: _fault(text) for code, text in _FAULTS.items()},
        },
    }


def _describe_answer(page: ListPage) -> dict[str, Any]:
    rows = {"type": "array", "items": {"$ref": f"#/components/schemas/{_schema(page)}"}}
    counts = {"type": "object", "additionalProperties": {"type": "integer"}}
    return {
        "type": "object",
        "required": [page.name, "next", "count", "is_counted", "too_large", "counts"],
        "properties": {
            page.name: rows,
            "next": {"type": ["string", "null"], "description": "the cursor of the next page"},
            "count": {"type": "integer", "description": "rows that match, at most 10,000"},
            "is_counted": {"type": "boolean", "description": _IS_COUNTED},
            "too_large": {"type": "integer", "description": _TOO_LARGE},
            "counts": counts | {"description": f"by {page.title_of_facet.lower() or 'nothing'}"},
        },
    }


def _describe_row(page: ListPage, more: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    names = {name_in_api(column): _TYPES.get(column.kind, _TEXT) for column in page.columns}
    names |= more
    return {"type": "object", "required": list(names), "properties": names}


def name_in_api(column: ListColumn) -> str:
    """Return the field of the API for a column: shops are slugs there."""
    return {"shop": "shop", "shops": "shops"}.get(column.kind, column.name)


def _schema(page: ListPage) -> str:
    return page.name.title().replace("_", "")


def _parameter(one: ListFilter) -> dict[str, Any]:
    forms = {
        "time": "An age (24h), a day or a moment (2026-11-29T07:00Z).",
        "choice": "One or more values, separated by commas.",
        "shop": "A shop's slug.",
        "number": "A whole number.",
        "path": 'A path or a predicate of PostgreSQL, such as `$.line_items[*].sku == "A-1"`.',
    }
    needs = f" Needs {', '.join(one.needs)}." if one.needs else ""
    if one.role > Role.VIEWER:
        needs += f" Needs the role {one.role.title} at the shop; each use is audited."
    text = f"{one.label}. {forms.get(one.kind, '')}".strip() + needs
    return _query(one.name, text, {"type": "string"})


def _query(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _fault(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


_HEAD = """# The API

Made from the code by `python -m services.console.openapi > docs/api.md`; a test keeps it current.

Lists, single rows and actions under `/api/v1`, with the rows, filters and access of
[the console](console.md#lists). The document is `GET /api/v1/openapi.json` (OpenAPI 3.1).

Send an API token of [your account](sign-in.md#sessions-and-tokens): `Authorization: Bearer sf_...`. Every
error has `error` (a stable code) and `detail`: {faults}. A token with the role viewer reads, one with the
role operator acts; what needs admin or owner says so. The role at the shop counts too.

```sh
curl -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: work-42-1" \\
  -d '{{"reason": "the provider is back"}}' http://localhost:8001/api/v1/work/42/requeue
```

A `POST` with the header `Idempotency-Key` is made once: the same request with the same key gets the first
answer, for 10 minutes.

The answer of a list has the rows, `next` (the value for `after`, or null), `count`, `is_counted`,
`too_large` and `counts`.
"""


def render_page() -> str:
    """Return ``docs/api.md``."""
    lines = [_HEAD.format(faults="; ".join(f"{code} {text}" for code, text in _FAULTS.items()))]
    for page in LISTS.values():
        fields = ", ".join(f"`{name_in_api(column)}`" for column in page.columns)
        lines += [f"## `GET /api/v1/{page.path}`", "", page.about, ""]
        lines += ["| parameter | meaning |", "| --- | --- |"]
        lines += [f"| `{one['name']}` | {one['description']} |" for one in _describe(page)["parameters"]]
        lines += ["", f"Fields: {fields}.", ""]
    lines += render_operations(describe_paths(_PATHS))
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(render_page())
