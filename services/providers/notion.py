"""Reads and writes pages and blocks of a Notion workspace, API version 2026-03-11.

Source: developers.notion.com, "Request limits", "Status codes" and the reference of each endpoint. Notion has
no idempotency key: after ``OutcomeUnknown`` the caller reads what is there before it writes again. An object
that is not shared with our connection is answered as if it did not exist.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from services.core.errors import Deferred, Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.core.fields import find_object
from services.core.log_redaction import quote_value
from services.providers.call_outcomes import noted_call
from services.providers.http import find_json, parse_retry_after, request

if TYPE_CHECKING:
    import httpx

PROVIDER = "notion"
API_VERSION = "2026-03-11"
LONGEST_TEXT = 2_000
"""Characters of one rich text."""
MOST_BLOCKS = 100
"""Blocks that one request may append, and entries of any other array."""
PAGE_SIZE = 100
MOST_PAGES = 1_000
"""A list that is longer repeats itself."""
NOT_FOUND = "notion.object_not_found"
"""The code of a page or block that does not exist, or is not shared with our connection."""

_WAIT_LONGEST = timedelta(hours=1)
_WAIT_UNSTATED = timedelta(seconds=10)
_SHARE = "open it in Notion, choose Connections in its menu, and add the connection of the shop's notion-key"
_IN_TRASH = re.compile("validation_error: .*(in the trash|archived)")
_CODE = re.compile(r"[a-z_]{1,60}")
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Notion:
    """A workspace, as one connection sees it. Objects are the JSON of Notion."""

    def __init__(self, base_url: str, key: str, *, http: "httpx.Client | None" = None) -> None:
        self._url, self._key, self._http = base_url.rstrip("/"), key, http

    def fetch_data_source(self, data_source_id: str) -> dict[str, Any]:
        """Return the data source with its ``properties``; raise ``Misconfigured`` if it is not shared."""
        return self._send("GET", "data_sources", data_source_id)

    def list_pages(self, data_source_id: str, condition: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the pages that meet ``condition``, a filter such as
        ``{"property": "UUID", "rich_text": {"equals": "..."}}``. Pages in the trash are left out.
        """
        return self._list("POST", "data_sources", data_source_id, "/query", {"filter": dict(condition)})

    def fetch_page(self, page_id: str) -> dict[str, Any]:
        """Return the page with its ``properties``; raise ``Refused`` with ``NOT_FOUND`` if there is none."""
        return self._send("GET", "pages", page_id)

    def create_page(
        self, data_source_id: str, properties: Mapping[str, Any], children: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """Create a page in the data source and return it, with at most ``MOST_BLOCKS`` ``children``."""
        parent = {"type": "data_source_id", "data_source_id": data_source_id}
        return self._send(
            "POST", "pages", "", json=_body(parent=parent, properties=properties, children=children)
        )

    def update_page(
        self, page_id: str, *, properties: Mapping[str, Any] | None = None, in_trash: bool | None = None
    ) -> dict[str, Any]:
        """Set the given ``properties``, put the page ``in_trash`` or take it out, and return the page."""
        return self._send("PATCH", "pages", page_id, json=_body(properties=properties, in_trash=in_trash))

    def list_children(self, block_id: str) -> Iterator[dict[str, Any]]:
        """Yield the blocks of a page or block in order, page by page as they are consumed."""
        return self._list("GET", "blocks", block_id, "/children", {})

    def append_children(
        self, block_id: str, children: Sequence[Mapping[str, Any]], *, after: str = ""
    ) -> list[dict[str, Any]]:
        """Append at most ``MOST_BLOCKS`` blocks at the end, or after the block ``after``; return them."""
        position = {"type": "after_block", "after_block": {"id": after}} if after else None
        body = _body(children=children, position=position)
        answer = self._send("PATCH", "blocks", block_id, "/children", json=body)
        return _read_results(answer, is_change=True)

    def delete_block(self, block_id: str) -> None:
        """Put the block in the trash. A block that is not there any more counts as deleted."""
        try:
            self._send("DELETE", "blocks", block_id)
        except Refused as fault:
            if fault.code != NOT_FOUND and not _IN_TRASH.search(fault.detail):
                raise

    def _list(
        self, method: str, kind: str, object_id: str, path: str, given: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        name = "params" if method == "GET" else "json"
        values = {**given, "page_size": PAGE_SIZE}
        for _ in range(MOST_PAGES):
            page = self._send(method, kind, object_id, path, is_change=False, **{name: values})
            yield from _read_results(page, is_change=False)
            cursor = page.get("next_cursor")
            if not (page.get("has_more") and isinstance(cursor, str)):
                return
            values["start_cursor"] = cursor
        raise RetryLater("notion.unavailable", f"the list of {kind} has more than {MOST_PAGES} pages")

    def _send(
        self,
        method: str,
        kind: str,
        object_id: str,
        path: str = "",
        *,
        is_change: bool | None = None,
        **body: Any,
    ) -> dict[str, Any]:
        """Return the answer. ``is_change``: without a response it may have happened; default: no GET."""
        changes = method != "GET" if is_change is None else is_change
        if object_id and not is_object_id(object_id):
            shown = quote_value(object_id)
            raise Refused("notion.id_invalid", f"{shown} should be an id of Notion: 32 hexadecimal digits")
        url = f"{self._url}/v1/{kind}" + (f"/{object_id}" if object_id else "") + path
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Notion-Version": API_VERSION,
            "Accept": "application/json",
        }
        send = partial(request, http=self._http, is_repeatable=not changes, host="api.notion.com")
        with noted_call(PROVIDER, kind):
            answer = send(method, PROVIDER, url, headers, **body)
            found = find_json(answer)
            if not answer.is_success:
                raise _make_error(answer, found or {}, kind, object_id, is_change=changes)
        if found is None:
            raise _unreadable("the answer is no JSON object", is_change=changes)
        return found


def is_object_id(text: str) -> bool:
    """Return whether ``text`` has the form of an id at Notion: a UUID, with or without dashes."""
    return bool(_OBJECT_ID.fullmatch(text))


def _body(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _read_results(answer: Mapping[str, Any], *, is_change: bool) -> list[dict[str, Any]]:
    results = answer.get("results")
    if not isinstance(results, list):
        raise _unreadable("the answer has no results", is_change=is_change)
    return results


def _unreadable(detail: str, *, is_change: bool) -> WorkError:
    return (
        OutcomeUnknown("notion.no_answer", detail) if is_change else RetryLater("notion.unavailable", detail)
    )


REFUSALS = {
    401: ("key_refused", "Notion does not accept the notion-key"),
    403: ("access_denied", "the connection may not do this: give it read, insert and update of content"),
}
"""The end of the error code and the text of a credential's refusal, by status."""


def _make_error(
    answer: "httpx.Response", body: Mapping[str, Any], kind: str, object_id: str, *, is_change: bool
) -> WorkError:
    """Return the error of Notion's ``code`` and status.

    Its message is kept only of a ``validation_error``, where it names the wrong field; it may quote a value.
    """
    status, code = answer.status_code, str(body.get("code") or "")
    detail = f"HTTP {status}" + (f" {code}" if _CODE.fullmatch(code) else "")
    if status in (409, 429) or status >= 500:
        return _make_retry(answer, body, detail, is_change=is_change)
    if status in REFUSALS:
        name, text = REFUSALS[status]
        return Misconfigured(f"notion.{name}", f"{detail}: {text}", is_partial=status == 403)
    if status == 404 and (kind == "data_sources" or not object_id):
        why = f"{detail}: there is no such data source, or it is not shared with the connection: {_SHARE}"
        return Misconfigured("notion.data_source_not_shared", why, is_partial=True)
    if status == 404:
        return Refused(NOT_FOUND, f"{detail}: no such object of {kind}, or it is not shared: {_SHARE}")
    message = str(body.get("message") or "")[:300] if code == "validation_error" else ""
    return Refused("notion.request_refused", f"{detail}: {message}" if message else detail)


def _make_retry(
    answer: "httpx.Response", body: Mapping[str, Any], detail: str, *, is_change: bool
) -> WorkError:
    """Return the error of a status after which the same request may succeed.

    After 429, 409 and 529 nothing happened. Another 5xx may come after the change: 503 also means that Notion
    took more than 60 s.
    """
    wait = parse_retry_after(answer.headers, _WAIT_LONGEST)
    match answer.status_code:
        case 429:
            reason = str(find_object(body, "additional_data").get("rate_limit_reason") or "")
            why = f"{detail}: {reason}" if _CODE.fullmatch(reason) else detail
            return Deferred("notion.rate_limited", why, wait=wait or _WAIT_UNSTATED)
        case 529:
            return RetryLater("notion.service_overload", detail, wait=wait or _WAIT_UNSTATED)
        case 409:
            return RetryLater("notion.conflict", f"{detail}: another change of this object runs", wait=wait)
    if is_change:
        return OutcomeUnknown("notion.no_answer", detail)
    return RetryLater("notion.unavailable", detail, wait=wait)
