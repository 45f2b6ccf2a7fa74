"""The result of a bulk operation: a file of JSON lines at an address in Shopify's answer.

The address is signed and needs no token; it is valid for seven days.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from services.core.errors import RetryLater

if TYPE_CHECKING:
    import httpx

EXPIRED, UNORDERED = "shopify.bulk_expired", "shopify.bulk_unordered"
USELESS = (EXPIRED, UNORDERED)
"""The errors of a file that another download would not mend: only a new operation helps."""
_GONE = (403, 404, 410)


def stream_objects(http: "httpx.Client", url: str) -> Iterator[dict[str, Any]]:
    """Yield the object of each line at ``url``; raise ``RetryLater``, ``EXPIRED`` if the file is gone."""
    import httpx

    try:
        with http.stream("GET", url) as response:
            if response.status_code in _GONE:
                raise RetryLater(EXPIRED, f"HTTP {response.status_code}: the file is not there any more")
            if response.status_code != 200:
                raise RetryLater("shopify.unavailable", f"HTTP {response.status_code} for a bulk file")
            for line in _split_lines(response.iter_bytes()):
                yield _parse_line(line)
    except httpx.HTTPError as error:
        raise RetryLater("shopify.no_answer", f"a bulk file ended: {type(error).__name__}") from error


def group_parts(lines: Iterable[Mapping[str, Any]], parts: str) -> Iterator[dict[str, Any]]:
    """Yield each object with its list ``parts``: the lines after it that name it as their parent."""
    whole: dict[str, Any] | None = None
    for line in lines:
        if whole is not None and line.get("__parentId") == whole["id"]:
            whole[parts]["nodes"].append(line)
            continue
        if "__parentId" in line:
            detail = f"{line.get('id')} does not follow its {line['__parentId']}"
            raise RetryLater(UNORDERED, detail, wait=timedelta(minutes=5))
        if "id" not in line:
            raise RetryLater(UNORDERED, "a line is of no object", wait=timedelta(minutes=5))
        if whole is not None:
            yield whole
        whole = {**line, parts: {"nodes": []}}
    if whole is not None:
        yield whole


def _split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines that end with a line feed: JSON may contain other line separators of Unicode."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, lines)
    if rest:
        yield rest


def _parse_line(line: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RetryLater("shopify.no_answer", "a bulk file ended within a line") from error
    return parsed if isinstance(parsed, dict) else {}
