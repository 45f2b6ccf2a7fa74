"""A workspace of Quo by its API key: phone numbers, conversations, calls, messages and contacts.

Source: quo.com/docs/2026-03-30. Lists are newest first; recordings and transcripts of a call oldest first.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from services.providers.delivery import find_instant
from services.sandbox.faults import Faults

API_VERSION = "2026-03-30"
REQUESTS_PER_SECOND = 10
MOST_LISTED = 50

Json = dict[str, Any]
Answer = tuple[int, Json]
KINDS = ("phone-numbers", "conversations", "calls", "messages", "contacts")
PARTS = {"recordings": "startTime", "transcripts": "startTime"}
"""Parts of a call, each with the field that sorts them."""
_PATTERNS = {"calls": "AC", "messages": "AC", "contacts": "CT", "phone-numbers": "PN", "conversations": "CN"}
_TITLES = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class QuoWorkspace:
    """Objects by kind and id. ``limit`` is the number of requests in each second; 0: none."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._objects: dict[str, dict[str, Json]] = {kind: {} for kind in KINDS}
        self._parts: dict[tuple[str, str], list[Json]] = {}
        self._recent: list[float] = []
        self.limit, self.faults = REQUESTS_PER_SECOND, Faults()
        self.counts: Counter[str] = Counter()

    def control(self, request: Mapping[str, Any]) -> None:
        """Add or replace objects of ``KINDS`` (with ``_`` for ``-``), each a list with ids.

        A call may have ``recordings`` and ``transcripts``, which its own lists return. ``limit`` is requests
        a second; the rest is as in ``Faults.set``.
        """
        for kind in KINDS:
            for one in request.get(kind.replace("-", "_"), ()):
                shown = {name: value for name, value in one.items() if name not in PARTS}
                self._objects[kind][str(one["id"])] = shown
                for part, by in PARTS.items():
                    if part in one:
                        self._parts[str(one["id"]), part] = sorted(one[part], key=partial(_read, by))
        self.limit = int(request.get("limit", self.limit))
        self.faults.set(dict(request))

    def answer(self, path: Sequence[str], query: Mapping[str, str], version: str) -> Answer:
        """Return (HTTP status, body) of GET ``path``."""
        now = self._clock()
        self._recent = [at for at in self._recent if now - at < 1.0]
        if self.limit and len(self._recent) >= self.limit:
            self.counts["refused"] += 1
            return _error(429, "Too many requests")
        self._recent.append(now)
        self.counts["requests"] += 1
        if status := self.faults.take_failure():
            return _error(status, "The sandbox fails on request")
        if version != API_VERSION:
            return _error(400, "The input was invalid", path="/Quo-Api-Version", value=version)
        return self._route(path, query)

    def _route(self, path: Sequence[str], query: Mapping[str, str]) -> Answer:
        match path:
            case [kind] if kind in KINDS:
                rows = [one for one in self._objects[kind].values() if _is_in_window(one, query)]
                return _list(sorted(rows, key=partial(_read, "createdAt"), reverse=True), query)
            case [kind, object_id] if kind in KINDS:
                return self._find(kind, object_id) or (200, {"data": self._objects[kind][object_id]})
            case ["calls", object_id, part] if part in PARTS:
                found = self._parts.get((object_id, part), [])
                return self._find("calls", object_id) or _list(found, query)
        return _error(404, "Not found")

    def _find(self, kind: str, object_id: str) -> Answer | None:
        """Return the error for an id of another form or of nothing."""
        if not object_id.startswith(_PATTERNS[kind]):
            return _error(400, "The input was invalid", path=f"/{kind}", value=object_id)
        found = object_id in self._objects[kind]
        return None if found else _error(404, f"{kind[:-1].capitalize()} not found")


def _read(name: str, one: Json) -> str:
    return str(one.get(name))


def _is_in_window(one: Json, query: Mapping[str, str]) -> bool:
    """Return whether the object was created between both bounds, which do not belong to the window."""
    at, after, before = (
        find_instant(text)
        for text in (one.get("createdAt"), *map(query.get, ("createdAfter", "createdBefore")))
    )
    return (after is None or (at is not None and at > after)) and (
        before is None or (at is not None and at < before)
    )


def _list(rows: list[Json], query: Mapping[str, str]) -> Answer:
    limit, start = query.get("limit", "10"), query.get("after", "0")
    if not limit.isdecimal() or not 1 <= int(limit) <= MOST_LISTED:
        return _error(400, "The input was invalid", path="/limit", value=limit)
    if not start.isdecimal():
        return _error(400, "The input was invalid", path="/after", value=start)
    end = int(start) + int(limit)
    return 200, {"data": rows[int(start) : end], "nextCursor": str(end) if end < len(rows) else None}


def _error(status: int, message: str, *, path: str = "", value: str = "") -> Answer:
    title = _TITLES.get(status, "Unknown")
    body: Json = {"message": message, "docs": "https://quo.com/docs", "title": title}
    if path:
        body["errors"] = [{"path": path, "message": "Expected another value", "value": value}]
    return status, body | ({} if status == 400 else {"trace": "6897907457496870895"})
