"""Everything the sandbox holds, in memory, behind one lock."""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from services.sandbox.faults import ControlInvalid
from services.sandbox.shopify_shop import ShopifyShop
from services.sandbox.stripe_account import StripeAccount, refuse_key

Reply = tuple[int, dict[str, Any], float, bool]
"""HTTP status, body, seconds to wait before answering, and whether the answer gets lost."""


class World:
    """Shops by domain and Stripe accounts by key; each appears when it is first spoken of."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._shops: dict[str, ShopifyShop] = {}
        self._accounts: dict[str, StripeAccount] = {}

    def control(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Change a shop (``shop``: its domain) or an account (``stripe_key``); ``reset`` forgets all."""
        with self._lock:
            if asked.get("reset"):
                self._shops.clear()
                self._accounts.clear()
            elif "shop" in asked:
                self._shop(str(asked["shop"])).control(asked)
            elif "stripe_key" in asked:
                self._account(str(asked["stripe_key"])).control(asked)
            else:
                raise ControlInvalid("name a shop (its domain), a stripe_key, or reset")
        return {"status": "ok"}

    def ask_shopify(self, domain: str, token: str, request: dict[str, Any], now: datetime) -> Reply:
        """Answer one Admin GraphQL request."""
        with self._lock:
            shop = self._shop(domain)
            status, body = shop.answer(token, request, now)
            is_lost = status == 200 and "data" in body and shop.faults.take_drop()
            return status, body, shop.faults.slow_seconds, is_lost

    def ask_stripe(self, key: str, query: dict[str, str]) -> Reply:
        """Answer GET /v1/charges. A test key nobody spoke of is an account without charges."""
        with self._lock:
            if key not in self._accounts and not key.startswith(("sk_test_", "rk_test_")):
                return *refuse_key(), 0.0, False
            account = self._account(key)
            status, body = account.list_charges(query)
            return status, body, account.faults.slow_seconds, status == 200 and account.faults.take_drop()

    def log(self, domain: str = "") -> dict[str, Any]:
        """Return every applied change in order, of one shop or shop by shop."""
        with self._lock:
            shops = [self._shop(domain)] if domain else list(self._shops.values())
            return {"changes": [change for shop in shops for change in shop.log]}

    def state(self) -> dict[str, Any]:
        """Return levels, counters and faults of every shop, and the size of every account."""
        with self._lock:
            return {
                "shops": {domain: _describe(shop) for domain, shop in self._shops.items()},
                "stripe_accounts": [len(account.charges) for account in self._accounts.values()],
            }

    def _shop(self, domain: str) -> ShopifyShop:
        if domain not in self._shops:
            self._shops[domain] = ShopifyShop(domain, self._clock)
        return self._shops[domain]

    def _account(self, key: str) -> StripeAccount:
        return self._accounts.setdefault(key, StripeAccount(key))


def _describe(shop: ShopifyShop) -> dict[str, Any]:
    levels = [
        {"inventory_item_id": item, "location_id": location, "available": available}
        for (item, location), available in shop.levels.items()
    ]
    faults = {"failed": shop.faults.failed, "dropped": shop.faults.dropped}
    return {"levels": levels, "changes": len(shop.log), "counts": shop.counts | faults}
