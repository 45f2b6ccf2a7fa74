"""Connections to workspaces: keys, request budgets, and faults to order.

A key that begins with ``ntn_`` is a connection of a workspace of its own, unless a control request names the
workspace. It sees every data source of its workspace, or only the ``shared`` ones.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from services.sandbox.faults import HTML, ControlInvalid, Faults
from services.sandbox.notion.budget import RequestBudget
from services.sandbox.notion.errors import NotionError, invalid
from services.sandbox.notion.workspace import Json, NotionWorkspace, normalize_id

API_VERSION = "2026-03-11"
REQUESTS, WINDOW_SECONDS = 180, 60.0
SAMPLE_DATA_SOURCE = "5a3b0c00-0000-4000-8000-000000000001"
"""Every new workspace has it."""
SAMPLE_PROPERTIES = {
    "Name": "title",
    "Merchant UUID": "rich_text",
    "Phone": "phone_number",
    "Email": "email",
}

_EVERY = ("overload", "conflict", "drop_write", "rate_limit")
_MESSAGES = {
    409: "Conflict occurred while saving. Please try again.",
    503: "Notion is unavailable. Please try again later.",
    529: "Notion is overloaded. Please try again later.",
}


@dataclass(frozen=True, slots=True)
class NotionAnswer:
    """An answer; ``is_lost``: the connection ends instead, after the change was applied."""

    status: int
    body: Json | str
    headers: Mapping[str, str] = field(default_factory=dict)
    slow_seconds: float = 0.0
    is_lost: bool = False


class NotionConnection:
    """A key with its budget and faults. ``every``: each so many-th request, or write, has the fault."""

    def __init__(self, workspace: NotionWorkspace, space: RequestBudget, clock: Callable[[], float]) -> None:
        self.workspace, self.space, self._clock = workspace, space, clock
        self.budget = RequestBudget("public_api_request_rate_limit", REQUESTS, WINDOW_SECONDS, clock)
        self.faults, self.every = Faults(), Counter[str]()
        self.counts: Counter[str] = Counter()
        self.shared: set[str] | None = None
        self._busy_until: dict[str, float] = {}

    def control(self, request: Mapping[str, Any]) -> None:
        """Set ``limit`` and ``workspace_limit`` {requests, seconds}, ``shared`` [ids], ``every`` {fault: n}.

        The rest is as in ``Faults.set``.
        """
        for name, budget in (("limit", self.budget), ("workspace_limit", self.space)):
            if name in request:
                budget.set(request[name])
        if "shared" in request:
            self.shared = {normalize_id(one) for one in request["shared"]}
        for name, count in request.get("every", {}).items():
            if name not in _EVERY:
                raise ControlInvalid(f"every.{name} should be one of {', '.join(_EVERY)}")
            self.every[name] = int(count)
        self.faults.set(dict(request))

    def answer(
        self, method: str, path: Sequence[str], query: Mapping[str, str], body: Json | None, version: str
    ) -> NotionAnswer:
        """Answer a request; ``body`` None: it is no JSON object."""
        request_id = {"request_id": str(uuid4())}
        is_write = method != "GET" and path[-1:] != ["query"]
        try:
            self._take(is_write=is_write)
            if version != API_VERSION:
                raise _wrong_version(version)
            if body is None:
                raise NotionError(400, "Error parsing JSON body.", code="invalid_json")
            found = self._route(method, list(path), query, body)
        except NotionError as fault:
            self.counts[fault.body["code"]] += 1
            headers = {**fault.headers, **(self.faults.fail_headers if fault.status >= 500 else {})}
            return NotionAnswer(fault.status, fault.body | request_id, headers, self.faults.slow_seconds)
        is_lost = self.faults.take("drop_next") or (is_write and self._is_due("drop_write"))
        self.counts["lost_answers"] += is_lost
        self.counts["writes"] += is_write
        is_html = not is_lost and self.faults.take("html_next")
        shown: Json | str = HTML if is_html else found | request_id
        return NotionAnswer(200, shown, {}, self.faults.slow_seconds, is_lost)

    def describe(self) -> Json:
        """Return the counters of both budgets, of errors by code, and of writes."""
        return {"connection": self.budget.describe(), "workspace": self.space.describe(), **self.counts}

    def _take(self, *, is_write: bool) -> None:
        """Take one request of both budgets; raise 429, or the fault whose turn it is."""
        self.space.check()
        self.budget.check()
        self.space.take()
        self.budget.take()
        status = self.faults.take_failure()
        if self._is_due("overload"):
            status = 529
        if is_write and self._is_due("conflict"):
            status = 409
        if self._is_due("rate_limit"):
            status = 429
        if status:
            wait = {429: 2, 529: 1}.get(status, 0)
            why = {"additional_data": {"rate_limit_reason": "sandbox"}} if status == 429 else {}
            message = _MESSAGES.get(status, "The sandbox fails on request.")
            raise NotionError(status, message, retry_after_seconds=wait, more=why)

    def _is_due(self, name: str) -> bool:
        if not self.every[name]:
            return False
        self.counts[f"{name}_seen"] += 1
        return self.counts[f"{name}_seen"] % self.every[name] == 0

    def _route(self, method: str, path: list[str], query: Mapping[str, str], body: Json) -> Json:
        space, shared = self.workspace, self.shared
        match (method, *path):
            case ("GET", "users", "me"):
                return {"object": "user", "id": str(uuid4()), "type": "bot", "name": "Shopfleet", "bot": {}}
            case ("GET", "data_sources", object_id):
                return space.get_data_source(object_id, shared)
            case ("POST", "data_sources", object_id, "query"):
                return space.query(space.get_data_source(object_id, shared), body)
            case ("GET", "pages", object_id):
                return space.get_page(object_id, shared)
            case ("GET", "blocks", object_id, "children"):
                return space.list_children(space.get_block(object_id, shared), query)
        return self._route_change(method, path, body)

    def _route_change(self, method: str, path: list[str], body: Json) -> Json:
        space, shared = self.workspace, self.shared
        match (method, *path):
            case ("POST", "pages"):
                parent = body.get("parent")
                if not isinstance(parent, dict) or "data_source_id" not in parent:
                    raise invalid("body.parent.data_source_id", "defined", "undefined")
                return space.create_page(space.get_data_source(parent["data_source_id"], shared), body)
            case ("PATCH", "pages", object_id):
                return space.update_page(self._hold(space.get_page(object_id, shared)), body)
            case ("PATCH", "blocks", object_id, "children"):
                return space.append(self._hold(space.get_block(object_id, shared)), body)
            case ("DELETE", "blocks", object_id):
                return space.delete_block(self._hold(space.get_block(object_id, shared)))
        raise NotionError(400, "Invalid request URL.", code="invalid_request_url")

    def _hold(self, changed: Json) -> Json:
        """Return ``changed``; raise a conflict while a slow answer to another change of its page is due."""
        page_id = str(changed.get("page_id") or changed["id"])
        if self._clock() < self._busy_until.get(page_id, 0.0):
            raise NotionError(409, _MESSAGES[409])
        self._busy_until[page_id] = self._clock() + self.faults.slow_seconds
        return changed


class NotionSandbox:
    """Connections by key, and workspaces by name."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._workspaces: dict[str, tuple[NotionWorkspace, RequestBudget]] = {}
        self._connections: dict[str, NotionConnection] = {}

    def control(self, request: Mapping[str, Any]) -> None:
        """Change the connection ``notion_key``, of ``workspace``: see ``NotionConnection.control``.

        ``data_sources`` [{id, title, properties {name: type}}] and ``index_delay_seconds`` are of the
        workspace.
        """
        key = str(request["notion_key"])
        connection = self._get(key, str(request.get("workspace", key)))
        for one in request.get("data_sources", ()):
            title, types = str(one.get("title", "Merchants")), one.get("properties", SAMPLE_PROPERTIES)
            connection.workspace.add_data_source(str(one["id"]), title, types)
        connection.workspace.index_delay_seconds = float(
            request.get("index_delay_seconds", connection.workspace.index_delay_seconds)
        )
        connection.control(request)

    def answer(
        self,
        method: str,
        path: Sequence[str],
        query: Mapping[str, str],
        body: Json | None,
        headers: Mapping[str, str],
    ) -> NotionAnswer:
        """Answer a request of ``path`` after ``/v1``; names of headers are lower case."""
        key = headers.get("authorization", "").removeprefix("Bearer ")
        if key not in self._connections and not key.startswith("ntn_"):
            fault = NotionError(401, "API token is invalid.")
            return NotionAnswer(401, fault.body | {"request_id": str(uuid4())})
        return self._get(key, key).answer(method, path, query, body, headers.get("notion-version", ""))

    def describe(self) -> Json:
        return {key: connection.describe() for key, connection in self._connections.items()}

    def list_contents(self, key: str) -> list[Json]:
        """Return each page of the workspace of ``key`` with the texts of its blocks in order; no request."""
        space = self._get(key, key).workspace
        return [
            {
                **page,
                "texts": [
                    _read_text(one) for one in space.list_children(page, {"page_size": 100})["results"]
                ],
            }
            for page in space.pages.values()
        ]

    def _get(self, key: str, workspace: str) -> NotionConnection:
        if key not in self._connections:
            if workspace not in self._workspaces:
                space = NotionWorkspace(self._clock)
                space.add_data_source(SAMPLE_DATA_SOURCE, "Merchants", SAMPLE_PROPERTIES)
                limit = RequestBudget("public_api_space_request_rate_limit", 0, WINDOW_SECONDS, self._clock)
                self._workspaces[workspace] = (space, limit)
            self._connections[key] = NotionConnection(*self._workspaces[workspace], self._clock)
        return self._connections[key]


def _read_text(block: Json) -> str:
    content = block[block["type"]]
    return "".join(one["plain_text"] for one in content.get("rich_text", ()))


def _wrong_version(version: str) -> NotionError:
    if version:
        return invalid("Notion-Version header", f'"{API_VERSION}"', version)
    text = (
        "Notion-Version header failed validation: Notion-Version header should be defined, instead was "
        "`undefined`."
    )
    return NotionError(400, text, code="missing_version")
