"""A workspace: its data sources with pages, and their blocks in order.

Source: developers.notion.com, the reference of each endpoint. Objects are in the form of version 2026-03-11.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

from services.core.clock import utc_now
from services.sandbox.notion.errors import NotionError, invalid, not_found
from services.sandbox.notion.properties import make_empty, make_schema, matches, read_properties
from services.sandbox.notion.texts import check_array, read_blocks, read_rich_text

Json = dict[str, Any]
_BOT = {"object": "user", "id": "2ab34ab3-2825-4ca0-a352-46ee74270066"}
_MOST_LISTED = 100


class NotionWorkspace:
    """Data sources, pages and blocks by id. ``index_delay_seconds``: a query does not find newer pages."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.data_sources: dict[str, Json] = {}
        self.pages: dict[str, Json] = {}
        self._blocks: dict[str, Json] = {}
        self._children: dict[str, list[str]] = {}
        self._made_at: dict[str, float] = {}
        self.index_delay_seconds = 0.0

    def add_data_source(self, data_source_id: str, title: str, types: Mapping[str, str]) -> None:
        """Add the data source, or replace its title and properties; ``types``: name -> type."""
        database_id = str(uuid4())
        key = normalize_id(data_source_id)
        self.data_sources[key] = _stamp(
            {
                "object": "data_source", "id": key,
                "title": read_rich_text([{"text": {"content": title}}], "title"),
                "description": [], "is_inline": False, "properties": make_schema(types),
                "parent": {"type": "database_id", "database_id": database_id},
                "url": f"https://app.notion.com/p/{database_id.replace('-', '')}", "public_url": None,
            }
        )  # fmt: skip

    def get_data_source(self, data_source_id: str, shared: set[str] | None) -> Json:
        """Return the data source; one that is not ``shared`` is answered as if it did not exist."""
        key = normalize_id(data_source_id)
        if key not in self.data_sources or (shared is not None and key not in shared):
            raise not_found("data source", data_source_id)
        return self.data_sources[key]

    def query(self, source: Json, body: Json) -> Json:
        rows = [
            page
            for page in self.pages.values()
            if page["parent"]["data_source_id"] == source["id"] and not page["in_trash"]
            and self._clock() - self._made_at[page["id"]] >= self.index_delay_seconds
            and matches(source["properties"], page["properties"], body.get("filter") or {})
        ]  # fmt: skip
        matches(source["properties"], make_empty(source["properties"]), body.get("filter") or {})
        return _list(rows, body, "page_or_data_source", "body")

    def create_page(self, source: Json, body: Json) -> Json:
        """Add a page to ``source``, at once with its ``children``."""
        values = read_properties(source["properties"], body.get("properties"))
        blocks = read_blocks(body.get("children") or [], "body.children")
        page_id = str(uuid4())
        parent = {
            "type": "data_source_id", "data_source_id": source["id"],
            "database_id": source["parent"]["database_id"],
        }  # fmt: skip
        page = _stamp(
            {
                "object": "page", "id": page_id, "cover": None, "icon": None, "parent": parent,
                "is_archived": False, "is_locked": False,
                "properties": make_empty(source["properties"]) | values,
                "url": f"https://app.notion.com/p/{page_id.replace('-', '')}", "public_url": None,
            }
        )  # fmt: skip
        self.pages[page_id], self._made_at[page_id] = page, self._clock()
        self._insert(page_id, "page_id", blocks, len)
        return page

    def get_page(self, page_id: str, shared: set[str] | None) -> Json:
        page = self.pages.get(normalize_id(page_id))
        if page is None or (shared is not None and page["parent"]["data_source_id"] not in shared):
            raise not_found("page", page_id)
        return page

    def update_page(self, page: Json, body: Json) -> Json:
        """Set properties, or put the page in the trash or take it out."""
        if "archived" in body:
            raise invalid("body.archived", "not present", str(body["archived"]).lower())
        source = self.data_sources[page["parent"]["data_source_id"]]
        is_in_trash = page["in_trash"] and body.get("in_trash") is not False
        values = read_properties(source["properties"], body.get("properties") or {})
        if is_in_trash and values:
            raise _in_trash("page")
        page["properties"] |= values
        page["in_trash"] = bool(body.get("in_trash", page["in_trash"]))
        page["last_edited_time"] = _now()
        return page

    def get_block(self, block_id: str, shared: set[str] | None) -> Json:
        """Return the block, or the page as the parent of blocks."""
        key = normalize_id(block_id)
        found = self._blocks.get(key)
        page_id = found["page_id"] if found else key
        page = self.pages.get(page_id)
        if page is None or (shared is not None and page["parent"]["data_source_id"] not in shared):
            raise not_found("block", block_id)
        return found or page

    def list_children(self, parent: Json, query: Mapping[str, Any]) -> Json:
        blocks = [self._blocks[one] for one in self._children.get(parent["id"], ())]
        rows = [_show(block) for block in blocks if not block["in_trash"]]
        return _list(rows, query, "block", "query")

    def append(self, parent: Json, body: Json) -> Json:
        """Insert blocks: at the end, at the start, or after one of the parent's blocks."""
        if "after" in body:
            raise invalid("body.after", "not present", str(body["after"]))
        check_array(body.get("children"), "body.children")
        blocks = read_blocks(body["children"], "body.children")
        if parent["in_trash"]:
            raise _in_trash("block")
        known = self._children.setdefault(parent["id"], [])
        position = body.get("position") or {"type": "end"}
        match position.get("type"):
            case "end":
                place: Callable[[list[str]], int] = len
            case "start":
                place = lambda _: 0  # noqa: E731 - one of three
            case "after_block":
                after = normalize_id(str((position.get("after_block") or {}).get("id", "")))
                if after not in known or self._blocks[after]["in_trash"]:
                    raise not_found("block", after)
                place = lambda ids: ids.index(after) + 1  # noqa: E731 - one of three
            case other:
                raise invalid("body.position.type", '"end", "start" or "after_block"', str(other))
        kind = "page_id" if parent["object"] == "page" else "block_id"
        return _list([_show(one) for one in self._insert(parent["id"], kind, blocks, place)], {}, "block", "")

    def delete_block(self, block: Json) -> Json:
        if block["in_trash"]:
            raise _in_trash("block")
        block["in_trash"] = True
        return block if block["object"] == "page" else _show(block)

    def _insert(
        self, parent_id: str, kind: str, blocks: list[Any], place: Callable[[list[str]], int]
    ) -> list[Json]:
        page_id = parent_id if kind == "page_id" else self._blocks[parent_id]["page_id"]
        known = self._children.setdefault(parent_id, [])
        made = []
        for content, children in blocks:
            parent = {"type": kind, kind: parent_id}
            block = _stamp({"object": "block", "id": str(uuid4()), "parent": parent, **content})
            block |= {"page_id": page_id, "has_children": bool(children)}
            self._blocks[block["id"]] = block
            self._insert(block["id"], "block_id", children, len)
            made.append(block)
        at = place(known)
        known[at:at] = [block["id"] for block in made]
        if page_id in self.pages:
            self.pages[page_id]["last_edited_time"] = _now()
        return made


def normalize_id(object_id: str) -> str:
    """Return the id with dashes; another text is returned as it is, and is the id of nothing."""
    try:
        return str(UUID(object_id))
    except ValueError:
        return object_id


def _now() -> str:
    return re.sub(r"\d{3}\+00:00$", "Z", utc_now().isoformat(timespec="microseconds"))


def _stamp(fields: Json) -> Json:
    times = {"created_time": _now(), "last_edited_time": _now()}
    return fields | times | {"created_by": _BOT, "last_edited_by": _BOT, "in_trash": False}


def _show(block: Json) -> Json:
    return {name: value for name, value in block.items() if name != "page_id"}


def _in_trash(kind: str) -> NotionError:
    return NotionError(
        400, f"Can't edit {kind} that is in the trash. You must restore the {kind} before editing."
    )


def _list(rows: list[Json], given: Mapping[str, Any], kind: str, path: str) -> Json:
    """Return the page of ``rows`` after ``start_cursor``, the id of its first row."""
    size, start = int(given.get("page_size", _MOST_LISTED)), 0
    if not 1 <= size <= _MOST_LISTED:
        raise invalid(f"{path}.page_size", f"≤ `{_MOST_LISTED}`", str(size))
    if cursor := given.get("start_cursor"):
        places = [number for number, row in enumerate(rows) if row["id"] == cursor]
        if not places:
            raise NotionError(400, f"The start_cursor provided is invalid: {cursor}")
        start = places[0]
    following = rows[start + size]["id"] if start + size < len(rows) else None
    return {
        "object": "list",
        "results": rows[start : start + size],
        "next_cursor": following,
        "has_more": following is not None,
        "type": kind,
        kind: {},
    }
