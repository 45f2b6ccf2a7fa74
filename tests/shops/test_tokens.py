"""Expiring tokens: one refresh for concurrent callers, and recovery after a failed store."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.core.settings import get_settings
from services.sandbox.serve import SandboxServer
from services.shopify.shop_access import SHOPIFY, open_admin
from services.shops.connections import record_connection_ok
from services.shops.secrets import get_secret, record_secret
from services.shops.tokens import get_access_token
from tests.shopify.sample_payloads import add_shop, rows

DOMAIN = "harbour.myshopify.com"
FIRST, REFRESH = "shpat_first", "shprt_first"
CLIENT = {"client_id": "app", "client_secret": "shpss_secret"}
STATE = "select status, code, token_expires_at, refresh_expires_at from connections"


@pytest.fixture
def sandbox(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxServer]:
    """A Shopify shop whose tokens are valid for an hour."""
    server = SandboxServer(0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.state.control(
        {"shop": DOMAIN, "oauth": CLIENT | {"refresh_token": REFRESH, "access_token": FIRST}}
    )
    monkeypatch.setenv("SHOPIFY_API_BASE", f"{server.url}/shopify")
    get_settings.cache_clear()
    yield server
    get_settings.cache_clear()
    server.shutdown()
    thread.join(60)
    server.server_close()


@pytest.fixture
def shop(engine: Engine, sandbox: SandboxServer) -> int:
    shop_id = add_shop(engine, domain=DOMAIN)
    give(engine, shop_id, **{
        "shopify-token": FIRST, "shopify-refresh-token": REFRESH, "shopify-client-id": "app",
        "shopify-client-secret": "shpss_secret",
    })  # fmt: skip
    return shop_id


def give(engine: Engine, shop_id: int, **secrets: str) -> None:
    with transaction(engine) as tx:
        for name, value in secrets.items():
            record_secret(tx, shop_id, name, value, utc_now())


def expire(engine: Engine, shop_id: int, after: timedelta) -> None:
    """Set the expiry of the token to ``after`` from now."""
    with transaction(engine) as tx:
        record_connection_ok(tx, shop_id, "shopify", utc_now())
        tx.execute(text("update connections set token_expires_at = :at"), {"at": utc_now() + after})


def stored(engine: Engine, shop_id: int) -> tuple[str | None, ...]:
    with transaction(engine) as tx:
        return tuple(get_secret(tx, shop_id, name) for name in ("shopify-token", "shopify-refresh-token"))


def tokens_of(sandbox: SandboxServer) -> Any:
    return sandbox.state._shop(DOMAIN).tokens


def test_token_without_an_expiry_or_far_from_it_is_used_as_it_is(
    engine: Engine, shop: int, sandbox: SandboxServer
) -> None:
    assert get_access_token(SHOPIFY, shop, utc_now()) == FIRST
    expire(engine, shop, SHOPIFY.good_for + timedelta(minutes=1))

    assert get_access_token(SHOPIFY, shop, utc_now()) == FIRST
    assert tokens_of(sandbox).attempts == 0


def test_token_about_to_expire_is_refreshed_and_the_new_pair_stored_sealed_with_its_expiry(
    engine: Engine, shop: int, sandbox: SandboxServer
) -> None:
    expire(engine, shop, timedelta(minutes=1))

    token = get_access_token(SHOPIFY, shop, utc_now())

    assert tokens_of(sandbox).accepts(token)
    assert stored(engine, shop) == (token, tokens_of(sandbox).refresh_token)
    ((status, code, expires_at, refresh_expires_at),) = rows(engine, STATE)
    assert (status, code) == ("ok", "")
    assert timedelta(minutes=59) < expires_at - utc_now() <= timedelta(hours=1)
    assert refresh_expires_at - utc_now() > timedelta(days=29)
    assert not rows(engine, "select 1 from shop_secrets where position('shpat_'::bytea in sealed) > 0")
    who = "select distinct staff_label from audit_events where action = 'shop.secret'"
    assert ("token refresh",) in rows(engine, who)


def test_concurrent_threads_refresh_once(engine: Engine, shop: int, sandbox: SandboxServer) -> None:
    expire(engine, shop, timedelta(0))
    together = threading.Barrier(12)

    def get_token(_: int) -> str:
        together.wait()
        return get_access_token(SHOPIFY, shop, utc_now())

    with ThreadPoolExecutor(12) as pool:
        results = set(pool.map(get_token, range(12)))

    assert len(results) == 1
    assert tokens_of(sandbox).attempts == 1


def test_concurrent_processes_refresh_once(engine: Engine, shop: int, sandbox: SandboxServer) -> None:
    expire(engine, shop, timedelta(0))
    program = (
        "import sys; from services.core.clock import utc_now; "
        "from services.shopify.shop_access import SHOPIFY; "
        "from services.shops.tokens import get_access_token; "
        "print('ready', flush=True); sys.stdin.readline(); "
        f"print(get_access_token(SHOPIFY, {shop}, utc_now()))"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ),
        )
        for _ in range(3)
    ]  # fmt: skip
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        results = [worker.communicate("go\n", timeout=60)[0] for worker in _start_all(workers)]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

    assert len(set(results)) == 1
    assert results[0].startswith("shpat_")
    assert tokens_of(sandbox).attempts == 1


def _start_all(workers: list["subprocess.Popen[str]"]) -> list["subprocess.Popen[str]"]:
    """Start all workers before waiting for any."""
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return workers


def test_call_that_gets_401_refreshes_and_is_made_again(
    engine: Engine, shop: int, sandbox: SandboxServer
) -> None:
    sandbox.state.control({"shop": DOMAIN, "expire_tokens": True})

    data = open_admin(shop).execute("query { shop { name } }", {}, changes=False)

    assert "shop" in data
    assert tokens_of(sandbox).attempts == 1
    assert stored(engine, shop)[0] != FIRST


def test_token_that_another_worker_refreshed_meanwhile_is_taken_over(
    engine: Engine, shop: int, sandbox: SandboxServer
) -> None:
    give(engine, shop, **{"shopify-token": "shpat_newer"})

    assert get_access_token(SHOPIFY, shop, utc_now(), refused=FIRST) == "shpat_newer"
    assert tokens_of(sandbox).attempts == 0


def test_refresh_with_a_lost_answer_is_repeated_with_the_stored_token(
    engine: Engine, shop: int, sandbox: SandboxServer
) -> None:
    expire(engine, shop, timedelta(0))
    tokens_of(sandbox).refresh(CLIENT | {"grant_type": "refresh_token", "refresh_token": REFRESH})

    token = get_access_token(SHOPIFY, shop, utc_now())

    assert tokens_of(sandbox).accepts(token)
    assert stored(engine, shop) == (token, tokens_of(sandbox).refresh_token)


def test_failed_refresh_uses_the_token_that_is_still_valid(
    engine: Engine, shop: int, sandbox: SandboxServer
) -> None:
    sandbox.state.control({"shop": DOMAIN, "fail_next": {"status": 503, "count": 2}})
    expire(engine, shop, timedelta(minutes=2))
    assert get_access_token(SHOPIFY, shop, utc_now()) == FIRST

    expire(engine, shop, timedelta(seconds=5))
    with pytest.raises(RetryLater):
        get_access_token(SHOPIFY, shop, utc_now())
    assert stored(engine, shop) == (FIRST, REFRESH)


@pytest.mark.parametrize(
    ("secret", "value", "code", "message"),
    [
        ("shopify-refresh-token", "shprt_spent", "shopify.refresh_refused", "install it again"),
        ("shopify-client-secret", "shpss_other", "shopify.client_refused", "shopify-client-secret"),
        ("shopify-client-id", "", "shopify.no_client", "no shopify-client-id"),
        ("shopify-refresh-token", "", "shopify.token_refused", "no shopify-refresh-token"),
    ],
)
def test_impossible_refresh_marks_the_connection_broken_and_says_what_to_do(
    engine: Engine, shop: int, secret: str, value: str, code: str, message: str
) -> None:
    with transaction(engine) as tx:
        tx.execute(text("delete from shop_secrets where name = :name"), {"name": secret})
    if value:
        give(engine, shop, **{secret: value})

    with pytest.raises(Misconfigured) as caught:
        get_access_token(SHOPIFY, shop, utc_now(), refused=FIRST)

    assert caught.value.code == code
    assert message in caught.value.detail
    assert rows(engine, STATE)[0][:2] == ("broken", code)
    assert not any(part in caught.value.detail for part in ("shprt_", "shpss_", "shpat_"))


def test_token_that_a_person_records_has_no_expiry_of_the_one_before(engine: Engine, shop: int) -> None:
    expire(engine, shop, timedelta(0))

    give(engine, shop, **{"shopify-token": "shpat_by_hand"})

    assert get_access_token(SHOPIFY, shop, utc_now()) == "shpat_by_hand"
