"""Properties of data sources and pages: their values, and the filters of a query."""

from collections.abc import Callable, Mapping
from typing import Any

from services.sandbox.notion.errors import NotionError, invalid
from services.sandbox.notion.texts import read_rich_text

Schema = Mapping[str, Mapping[str, Any]]

_PLAIN_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "email": str, "phone_number": str, "url": str, "number": (int, float), "checkbox": bool,
}  # fmt: skip
_MATCHES: Mapping[str, Callable[[str, Any], bool]] = {
    "equals": lambda text, wanted: text == wanted,
    "does_not_equal": lambda text, wanted: text != wanted,
    "contains": lambda text, wanted: wanted in text,
    "starts_with": lambda text, wanted: text.startswith(wanted),
    "is_empty": lambda text, _: not text,
    "is_not_empty": lambda text, _: bool(text),
}


def make_schema(types: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the properties of a data source from the type of each name."""
    return {
        name: {"id": "title" if kind == "title" else name, "name": name, "type": kind, kind: {}}
        for name, kind in types.items()
    }


def read_properties(schema: Schema, given: Any) -> dict[str, dict[str, Any]]:
    """Return the values of a page in Notion's form; raise the error of the first wrong one."""
    if not isinstance(given, dict):
        raise invalid("body.properties", "defined", "undefined")
    found = {}
    for name, value in given.items():
        if name not in schema:
            raise NotionError(400, f"{name} is not a property that exists.")
        kind = schema[name]["type"]
        if not isinstance(value, dict) or kind not in value:
            raise NotionError(400, f"{name} is expected to be {kind}.")
        found[name] = {"id": schema[name]["id"], "type": kind, kind: _read_value(kind, value[kind], name)}
    return found


def make_empty(schema: Schema) -> dict[str, dict[str, Any]]:
    """Return the values of a new page to which nothing was given."""
    empty: dict[str, Any] = {"title": [], "rich_text": [], "multi_select": [], "checkbox": False}
    return {
        name: {"id": one["id"], "type": one["type"], one["type"]: empty.get(one["type"])}
        for name, one in schema.items()
    }


def _read_value(kind: str, value: Any, name: str) -> Any:
    path = f"body.properties.{name}.{kind}"
    if kind in ("title", "rich_text"):
        return read_rich_text(value, path)
    expected = _PLAIN_TYPES.get(kind)
    if expected and value is not None and not isinstance(value, expected):
        raise invalid(path, f"a {kind} or `null`", str(value)[:50])
    if kind in ("email", "phone_number") and value is not None and not 1 <= len(value) <= 200:
        raise invalid(f"{path}.length", "≤ `200`", str(len(value)))
    return value


def matches(schema: Schema, properties: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """Return whether a page with ``properties`` meets the filter ``condition``."""
    if not condition:
        return True
    if "and" in condition:
        return all(matches(schema, properties, one) for one in condition["and"])
    if "or" in condition:
        return any(matches(schema, properties, one) for one in condition["or"])
    name = str(condition.get("property"))
    if name not in schema:
        raise NotionError(400, f"Could not find property with name or id: {name}")
    kind = schema[name]["type"]
    test = condition.get(kind)
    if not isinstance(test, dict) or not set(test) <= set(_MATCHES):
        raise invalid(f"body.filter.{kind}", "defined", "undefined")
    text = read_plain_text(properties[name])
    return all(_MATCHES[operator](text, wanted) for operator, wanted in test.items())


def read_plain_text(value: Mapping[str, Any]) -> str:
    """Return the text of a property's value."""
    content = value[value["type"]]
    if isinstance(content, list):
        return "".join(one["plain_text"] for one in content)
    return "" if content is None else str(content)
