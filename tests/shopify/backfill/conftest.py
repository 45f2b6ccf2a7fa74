"""Fixtures: a sandbox with the day, and the two shops."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.sandbox.serve import SandboxServer
from services.sandbox.state import SandboxState
from services.shops.secrets import record_secret
from tests.shopify.backfill.fake_shop import DOMAIN, STRIPE_KEY, TOKEN, Shops, control
from tests.shopify.sample_payloads import add_shop


@pytest.fixture
def shops(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shops]:
    with SandboxServer(0, SandboxState()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        monkeypatch.setenv("SHOPIFY_API_BASE", f"{server.url}/shopify")
        monkeypatch.setenv("STRIPE_API_BASE", f"{server.url}/stripe")
        get_settings.cache_clear()
        control(server.url, shop=DOMAIN, token=TOKEN, bucket={"maximum": 100_000, "available": 100_000,
                "restore_per_second": 10_000})  # fmt: skip
        whole = add_shop(engine, slug="whole", domain="")
        holed = add_shop(engine, slug="holed", domain=DOMAIN)
        with transaction(engine) as tx:
            record_secret(tx, holed, "shopify-token", TOKEN, utc_now())
            record_secret(tx, holed, "stripe-key", STRIPE_KEY, utc_now())
        yield Shops(engine, whole, holed, server.url)
        get_settings.cache_clear()
        server.shutdown()
        thread.join(60)
