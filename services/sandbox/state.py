"""The state of the sandbox: in memory, with one lock."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.sandbox.faults import HTML, ControlInvalid, Faults
from services.sandbox.notion.connection import NotionSandbox
from services.sandbox.quickbooks_time.company import TimeCompany
from services.sandbox.quo.workspace import QuoWorkspace
from services.sandbox.shopify.shop import ShopifyShop
from services.sandbox.stripe.account import StripeAccount, refuse_key

VERSIONS = ("2026-04", "2026-07", "2026-10", "unstable")
"""The existing versions of the Admin API; the sandbox answers all of them alike."""


@dataclass(frozen=True, slots=True)
class SandboxReply:
    """An answer, and how it is sent."""

    status: int
    body: dict[str, Any] | str
    slow_seconds: float = 0.0
    is_lost: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


class SandboxState:
    """Shops by domain and Stripe accounts by key; each is created when it is first named."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        find_contents: Callable[[str], dict[str, Any]] = lambda _domain: {},
    ) -> None:
        """``find_contents`` returns the control request that fills a new shop, by its domain."""
        self._clock = clock
        self._find_contents = find_contents
        self.url = ""
        """The base address of the server, which the files of bulk operations have."""
        self._lock = threading.Lock()
        self._shops: dict[str, ShopifyShop] = {}
        self._accounts: dict[str, StripeAccount] = {}
        self._companies: dict[str, TimeCompany] = {}
        self._notion = NotionSandbox(clock)
        self._quo: dict[str, QuoWorkspace] = {}

    def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """Change a shop (``shop``: its domain), an account (``stripe_key``), a company (``time_company``),
        a connection (``notion_key``) or a workspace (``quo_key``).

        A company is named by its client id. ``reset`` removes all.
        """
        with self._lock:
            if request.get("reset"):
                self._shops.clear()
                self._accounts.clear()
                self._companies.clear()
                self._notion = NotionSandbox(self._clock)
                self._quo.clear()
            elif "shop" in request:
                self._shop(str(request["shop"])).control(request)
            elif "stripe_key" in request:
                self._account(str(request["stripe_key"])).control(request)
            elif "time_company" in request:
                self._company(str(request["time_company"])).control(request)
            elif "notion_key" in request:
                self._notion.control(request)
            elif "quo_key" in request:
                self._workspace(str(request["quo_key"])).control(request)
            else:
                known = "shop (its domain), stripe_key, time_company, notion_key, quo_key or reset"
                raise ControlInvalid(f"name one of {known}")
        return {"status": "ok"}

    def answer_shopify(
        self, domain: str, token: str, request: dict[str, Any], now: datetime, version: str = VERSIONS[0]
    ) -> SandboxReply:
        if version not in VERSIONS:
            return SandboxReply(404, {"errors": "Not Found"})
        with self._lock:
            shop = self._shop(domain)
            return _apply_faults(*shop.answer(token, request, now), shop.faults)

    def find_bulk_file(self, domain: str, name: str) -> bytes | None:
        """Return the JSON lines of a bulk operation."""
        with self._lock:
            return self._shop(domain).bulk.files.get(name)

    def refresh_shopify_token(self, domain: str, request: dict[str, Any]) -> SandboxReply:
        with self._lock:
            shop = self._shop(domain)
            return _apply_faults(*shop.refresh_token(request), shop.faults)

    def answer_stripe(self, key: str, path: str, query: Sequence[tuple[str, str]]) -> SandboxReply:
        """Answer GET ``path`` ("/v1/charges"). An unknown test key is an empty account."""
        with self._lock:
            if key not in self._accounts and not key.startswith(("sk_test_", "rk_test_")):
                return SandboxReply(*refuse_key(key), headers={"Request-Id": "req_sandbox_0"})
            account = self._account(key)
            headers = {"Request-Id": f"req_sandbox_{next(account.requests)}"}
            return _apply_faults(*account.answer(path, query), account.faults, headers)

    def authorise_time(self, query: Mapping[str, str]) -> SandboxReply:
        """Answer GET ``authorize`` of QuickBooks Time: the browser goes back with a code."""
        with self._lock:
            company = self._company(query.get("client_id", ""))
            return SandboxReply(302, "", headers={"Location": company.tokens.authorise(query)})

    def grant_time(self, request: dict[str, Any]) -> SandboxReply:
        """Answer POST ``grant`` of QuickBooks Time."""
        with self._lock:
            company = self._company(str(request.get("client_id", "")))
            return _apply_faults(*company.grant(request), company.faults)

    def answer_time(self, token: str, name: str, query: Mapping[str, str]) -> SandboxReply:
        """Answer GET ``name`` of QuickBooks Time, of the company that issued ``token``."""
        with self._lock:
            for company in self._companies.values():
                if company.tokens.accepts(token):
                    return _apply_faults(*company.answer(name, query), company.faults)
        return SandboxReply(401, {"error": {"code": 401, "message": "The access token is not valid."}})

    def answer_notion(
        self,
        method: str,
        path: Sequence[str],
        query: Mapping[str, str],
        body: dict[str, Any] | None,
        headers: Mapping[str, str],
    ) -> SandboxReply:
        """Answer a request of Notion's ``path`` after ``/v1``; ``body`` None: it is no JSON object."""
        with self._lock:
            found = self._notion.answer(method, path, query, body, headers)
        return SandboxReply(found.status, found.body, found.slow_seconds, found.is_lost, found.headers)

    def list_notion(self, key: str) -> dict[str, Any]:
        """Return every page of the workspace of ``key`` with the texts of its blocks."""
        with self._lock:
            return {"pages": self._notion.list_contents(key)}

    def answer_quo(
        self, key: str, path: Sequence[str], query: Mapping[str, str], version: str
    ) -> SandboxReply:
        """Answer GET ``path`` of Quo. An unknown key is an empty workspace, no key is refused."""
        if not key:
            body = {"message": "Unauthorized", "docs": "https://quo.com/docs", "title": "Unauthorized"}
            return SandboxReply(401, body)
        with self._lock:
            workspace = self._workspace(key)
            status, found = workspace.answer(path, query, version)
            faults = workspace.faults
            is_lost = status == 200 and faults.take("drop_next")
            return SandboxReply(status, found, faults.slow_seconds, is_lost, faults.fail_headers)

    def log(self, domain: str = "") -> dict[str, Any]:
        """Return the applied changes in order: of the shop ``domain``, or shop by shop."""
        with self._lock:
            shops = [self._shop(domain)] if domain else list(self._shops.values())
            return {"changes": [change for shop in shops for change in shop.log]}

    def state(self) -> dict[str, Any]:
        """Return levels and counters of every shop, and the counters of Notion's and Quo's requests."""
        with self._lock:
            return {
                "shops": {domain: _describe(shop) for domain, shop in self._shops.items()},
                "notion": self._notion.describe(),
                "quo": {key: dict(workspace.counts) for key, workspace in self._quo.items()},
            }

    def _shop(self, domain: str) -> ShopifyShop:
        if domain not in self._shops:
            url = f"{self.url}/shopify/{domain}/bulk"
            shop = ShopifyShop(domain, self._clock, bulk_url=url)
            shop.control(self._find_contents(domain))
            self._shops[domain] = shop
        return self._shops[domain]

    def _company(self, client_id: str) -> TimeCompany:
        return self._companies.setdefault(client_id, TimeCompany(client_id, self._clock))

    def _workspace(self, key: str) -> QuoWorkspace:
        return self._quo.setdefault(key, QuoWorkspace(self._clock))

    def _account(self, key: str) -> StripeAccount:
        return self._accounts.setdefault(key, StripeAccount(key))


def _apply_faults(
    status: int, body: dict[str, Any], faults: Faults, headers: Mapping[str, str] = {}
) -> SandboxReply:
    """Return the answer with the next of ``faults``: late, replaced by HTML, or lost."""
    if status != 200:
        wait = {"Retry-After": "2.0"} if status == 429 else {}
        return SandboxReply(
            status, body, faults.slow_seconds, headers={**headers, **wait, **faults.fail_headers}
        )
    is_refused = "errors" in body and "data" not in body
    is_lost = not is_refused and faults.take("drop_next")
    is_html = not is_refused and not is_lost and faults.take("html_next")
    return SandboxReply(status, HTML if is_html else body, faults.slow_seconds, is_lost, headers)


def _describe(shop: ShopifyShop) -> dict[str, Any]:
    levels = [
        {"inventory_item_id": item, "location_id": location, "available": available}
        for (item, location), available in shop.levels.items()
    ]
    counts = shop.counts | {
        "failed": shop.faults.taken["fail_next"],
        "dropped": shop.faults.taken["drop_next"],
        "token_requests": shop.tokens.attempts,
    }
    operations = len(shop.bulk.nodes)
    return {"levels": levels, "changes": len(shop.log), "counts": counts, "bulk_operations": operations}
