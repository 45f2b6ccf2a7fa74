"""Rich texts and blocks: what Notion refuses, and the form in which it returns them."""

import re
from collections.abc import Mapping
from typing import Any

from services.sandbox.notion.errors import NotionError, invalid

# Notion counts UTF-16 units: an emoji has two.
LONGEST_TEXT, LONGEST_ARRAY, MOST_BLOCKS = 2_000, 100, 1_000
_TEXT_TYPES = (
    "paragraph", "heading_1", "heading_2", "heading_3", "bulleted_list_item", "numbered_list_item", "to_do",
    "toggle", "quote", "callout", "code",
)  # fmt: skip
_LINK = re.compile(r"(https?|mailto|tel):(//)?[^\s/.\[\]]+(\.[^\s/.\[\]]+)+([/?#]\S*)?$")
_OTHER_TYPES = ("divider", "bookmark", "embed", "audio", "table_of_contents")
_PLAIN: Mapping[str, Any] = {
    "bold": False, "italic": False, "strikethrough": False, "underline": False, "code": False,
    "color": "default",
}  # fmt: skip


def read_rich_text(value: Any, path: str) -> list[dict[str, Any]]:
    """Return ``value`` in Notion's form; raise the error of its first fault."""
    check_array(value, path)
    found = []
    for number, one in enumerate(value):
        at = f"{path}[{number}].text"
        text = one.get("text") if isinstance(one, dict) else None
        content = text.get("content") if isinstance(text, dict) else None
        if not isinstance(content, str):
            raise invalid(at, "defined", "undefined")
        length = len(content.encode("utf-16-le", "surrogatepass")) // 2
        if length > LONGEST_TEXT:
            raise invalid(f"{at}.content.length", f"≤ `{LONGEST_TEXT}`", str(length))
        link = text.get("link") if isinstance(text, dict) else None
        if isinstance(link, dict) and not _LINK.match(str(link.get("url"))):
            raise NotionError(400, "Content creation Failed. Fix the following: Invalid URL for link.")
        found.append(
            {
                "type": "text",
                "text": {"content": content, "link": link},
                "annotations": {**_PLAIN, **(one.get("annotations") or {})},
                "plain_text": content,
                "href": link.get("url") if isinstance(link, dict) else None,
            }
        )
    return found


def check_array(value: Any, path: str) -> None:
    if not isinstance(value, list):
        raise invalid(path, "an array", "undefined" if value is None else type(value).__name__)
    if len(value) > LONGEST_ARRAY:
        raise invalid(f"{path}.length", f"≤ `{LONGEST_ARRAY}`", str(len(value)))


def read_blocks(value: Any, path: str, depth: int = 0) -> list[tuple[dict[str, Any], list[Any]]]:
    """Return the type and content of each block, with its children in the same form."""
    check_array(value, path)
    if depth > 2:
        raise invalid(path, "not present", "children of children of children")
    found = [_read_block(block, f"{path}[{number}]", depth) for number, block in enumerate(value)]
    if depth == 0 and _count(found) > MOST_BLOCKS:
        raise NotionError(400, f"body failed validation: a request has at most {MOST_BLOCKS} blocks.")
    return found


def _read_block(block: Any, path: str, depth: int) -> tuple[dict[str, Any], list[Any]]:
    if not isinstance(block, dict):
        raise invalid(path, "an object", type(block).__name__)
    types = [name for name in (*_TEXT_TYPES, *_OTHER_TYPES) if name in block]
    kind = block.get("type") or (types[0] if len(types) == 1 else "")
    if kind not in types:
        raise invalid(f"{path}.{kind or 'paragraph'}", "defined", "undefined")
    given = dict(block[kind])
    children = (
        read_blocks(given.pop("children"), f"{path}.{kind}.children", depth + 1)
        if "children" in given
        else []
    )
    if kind in _TEXT_TYPES:
        given["rich_text"] = read_rich_text(given.get("rich_text"), f"{path}.{kind}.rich_text")
        given.setdefault("color", "default")
    return {"type": kind, kind: given}, children


def _count(blocks: list[Any]) -> int:
    return sum(1 + _count(children) for _, children in blocks)
