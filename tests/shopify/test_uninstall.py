"""Our app counts as uninstalled once Shopify refuses the stored token, and never by a header alone."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

import httpx
import orjson
import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.sandbox.payloads.catalogue import make_shopify_body
from services.sandbox.serve import SandboxServer
from services.shopify.shop_profile import ingest_storefronts
from services.shopify.uninstall import UninstallConfirmHandler
from services.shops.secrets import (
    SECRETS_KEPT,
    delete_retired_secrets,
    get_secret,
    record_secret,
    restore_secret,
)
from tests.ledger_rows import accept, new_event
from tests.shopify.sample_payloads import NOON, SHOP, add_shop, ingest, item, rows

DOMAIN = "harbour.myshopify.com"
TOKEN = "shpat_" + "0" * 32
OUTCOMES = "select status, result, error_code from work_queue where topic = 'uninstall_confirm' order by id"
INCIDENTS = "select rule, severity, status from incidents order by id"


@pytest.fixture
def sandbox(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A sandbox shop that accepts the token recorded an hour before noon."""
    server = SandboxServer(0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("SHOPIFY_API_BASE", f"{server.url}/shopify")
    get_settings.cache_clear()
    accept_token(server.url, TOKEN)
    add_shop(engine, domain=DOMAIN)
    with transaction(engine) as tx:
        record_secret(tx, SHOP, "shopify-token", TOKEN, NOON - timedelta(hours=1))
        # The default of the row is the clock of the database, years after ``NOON``.
        tx.exec_driver_sql("update shop_secrets set created_at = %(at)s", {"at": NOON - timedelta(hours=1)})
    yield server.url
    get_settings.cache_clear()
    server.shutdown()
    server.server_close()
    thread.join(60)


def accept_token(url: str, token: str) -> None:
    """Make the shop accept only this token, as after an install."""
    httpx.post(f"{url}/_control", json={"shop": DOMAIN, "token": token}).raise_for_status()


def uninstall(engine: Engine, number: int = 1, moment: datetime = NOON) -> None:
    """Receive ``app/uninstalled`` and process it."""
    body = orjson.dumps(make_shopify_body("shop/update", shop_id=9, domain=DOMAIN, at=moment))
    accept(engine, new_event(number, topic="app/uninstalled", body=body, key="9",
                             received_at=utc_now(), occurred_at=moment))  # fmt: skip
    work(engine)


def work(engine: Engine) -> None:
    ExternalRunner(engine, "tester", Random(1)).run_batch(
        TOPICS["uninstall_confirm"], UninstallConfirmHandler()
    )


def token(engine: Engine) -> str | None:
    with transaction(engine) as tx:
        return get_secret(tx, SHOP, "shopify-token")


def test_forged_uninstall_changes_nothing_while_shopify_takes_the_token(engine: Engine, sandbox: str) -> None:
    uninstall(engine)

    assert rows(engine, OUTCOMES) == [("dead", None, "shopify.still_installed")]
    assert token(engine) == TOKEN
    assert rows(engine, "select uninstalled_at from storefronts") == []
    assert rows(engine, INCIDENTS) == [("shopify_uninstall_not_confirmed", "P2", "open")]


def test_uninstall_counts_once_shopify_refuses_the_token(engine: Engine, sandbox: str) -> None:
    accept_token(sandbox, "shpat_" + "1" * 32)

    uninstall(engine)

    assert rows(engine, OUTCOMES) == [("done", "uninstalled", None)]
    assert token(engine) is None
    assert rows(engine, "select uninstalled_at from storefronts") == [(NOON,)]
    assert rows(engine, INCIDENTS) == [
        ("shopify_uninstall_not_confirmed", "P2", "resolved"), ("shopify_uninstalled", "P2", "open"),
    ]  # fmt: skip
    assert rows(engine, "select status, code from connections") == [("broken", "shopify.token_refused")]
    summaries = rows(engine, "select string_agg(summary, ' ') from audit_mutations")[0][0]
    assert "our app was uninstalled" in summaries
    assert "retired shopify-token" in summaries
    assert TOKEN not in summaries


def test_shop_without_a_token_is_not_taken_for_uninstalled(engine: Engine, sandbox: str) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql("delete from shop_secrets")

    uninstall(engine)

    assert rows(engine, OUTCOMES) == [("dead", None, "shopify.no_token")]
    assert rows(engine, "select uninstalled_at from storefronts") == []
    assert rows(engine, INCIDENTS) == [("shopify_uninstall_not_confirmed", "P2", "open")]


def test_forbidden_is_no_confirmation(engine: Engine, sandbox: str) -> None:
    httpx.post(f"{sandbox}/_control", json={"shop": DOMAIN, "fail_next": {"status": 403, "count": 1}})

    uninstall(engine)

    assert rows(engine, OUTCOMES) == [("dead", None, "shopify.token_refused")]
    assert token(engine) == TOKEN
    assert rows(engine, "select uninstalled_at from storefronts") == []


def test_expired_token_is_renewed_and_confirms_nothing(engine: Engine, sandbox: str) -> None:
    oauth = {"client_id": "id", "client_secret": "secret", "refresh_token": "shprt_1", "expires_in": 3600}
    httpx.post(f"{sandbox}/_control", json={"shop": DOMAIN, "token": "", "oauth": oauth}).raise_for_status()
    with transaction(engine) as tx:
        named = {"refresh-token": "shprt_1", "client-id": "id", "client-secret": "secret"}
        for name, value in named.items():
            record_secret(tx, SHOP, f"shopify-{name}", value, NOON - timedelta(hours=1))
        tx.exec_driver_sql("update shop_secrets set created_at = %(at)s", {"at": NOON - timedelta(hours=1)})

    uninstall(engine)

    assert rows(engine, OUTCOMES) == [("dead", None, "shopify.still_installed")]
    assert token(engine) not in (None, TOKEN)


@pytest.mark.parametrize(("expires", "status"), [("in an hour", "done"), ("an hour ago", "dead")])
def test_spent_refresh_token_confirms_only_where_the_refused_token_had_not_expired(
    engine: Engine, sandbox: str, expires: str, status: str
) -> None:
    oauth = {"client_id": "id", "client_secret": "secret", "refresh_token": "shprt_other"}
    httpx.post(f"{sandbox}/_control", json={"shop": DOMAIN, "token": "", "oauth": oauth}).raise_for_status()
    expires_at = utc_now() + timedelta(hours=1 if expires == "in an hour" else -1)
    with transaction(engine) as tx:
        named = {"refresh-token": "shprt_1", "client-id": "id", "client-secret": "secret"}
        for name, value in named.items():
            record_secret(tx, SHOP, f"shopify-{name}", value, NOON - timedelta(hours=1))
        tx.exec_driver_sql("update shop_secrets set created_at = %(at)s", {"at": NOON - timedelta(hours=1)})
        tx.exec_driver_sql(
            "insert into connections (shop_id, provider, status, since, updated_at, token_expires_at)"
            " values (1, 'shopify', 'ok', now(), now(), %(at)s)",
            {"at": expires_at},
        )

    uninstall(engine)

    ((found, _, _),) = rows(engine, OUTCOMES)
    assert found == status
    assert (token(engine) is None) == (status == "done")


def test_uninstall_of_another_shop_is_refused_by_its_domain(engine: Engine, sandbox: str) -> None:
    body = orjson.dumps(make_shopify_body("shop/update", shop_id=9, domain="pier.myshopify.com", at=NOON))
    accept(engine, new_event(1, topic="app/uninstalled", body=body, key="9", received_at=utc_now()))

    work(engine)

    assert rows(engine, OUTCOMES) == [("dead", None, "shopify.wrong_body")]
    assert rows(engine, INCIDENTS) == []


def test_shopify_that_does_not_answer_is_called_again(engine: Engine, sandbox: str) -> None:
    httpx.post(
        f"{sandbox}/_control", json={"shop": DOMAIN, "fail_next": {"status": 503, "count": 1}}
    ).raise_for_status()

    uninstall(engine)

    ((status, _, code),) = rows(engine, OUTCOMES)
    assert status == "error"
    assert code.startswith("shopify.")
    assert token(engine) == TOKEN


@pytest.mark.parametrize("later", ["a token was recorded", "the shop described itself"])
def test_late_uninstall_is_stale_where_the_app_was_installed_again(
    engine: Engine, sandbox: str, later: str
) -> None:
    if later == "a token was recorded":
        with transaction(engine) as tx:
            tx.exec_driver_sql("update shop_secrets set created_at = %(at)s", {"at": NOON})
    else:
        known = make_shopify_body("shop/update", shop_id=9, domain=DOMAIN, at=NOON + timedelta(minutes=5))
        ingest(engine, ingest_storefronts, item("storefront_ingest", known, event_topic="shop/update"))

    uninstall(engine)

    assert rows(engine, OUTCOMES) == [("done", "stale", None)]
    assert token(engine) == TOKEN
    assert rows(engine, "select count(*) from incidents where rule like 'shopify_uninstall%'") == [(0,)]


def test_uninstall_received_twice_happens_once(engine: Engine, sandbox: str) -> None:
    accept_token(sandbox, "shpat_" + "1" * 32)
    uninstall(engine)

    uninstall(engine, 2)

    assert rows(engine, OUTCOMES) == [("done", "uninstalled", None), ("done", "stale", None)]


def test_time_in_an_unsigned_header_is_never_later_than_the_receipt(engine: Engine, sandbox: str) -> None:
    accept_token(sandbox, "shpat_" + "1" * 32)
    before = utc_now()

    uninstall(engine, moment=datetime.fromisoformat("9998-01-01T00:00:00+00:00"))

    ((at,),) = rows(engine, "select uninstalled_at from storefronts")
    assert before <= at <= utc_now()


def test_retired_token_can_be_taken_back_until_it_is_deleted(engine: Engine, sandbox: str) -> None:
    accept_token(sandbox, "shpat_" + "1" * 32)
    uninstall(engine)

    with transaction(engine) as tx:
        assert restore_secret(tx, SHOP, "shopify-token", utc_now(), by="ada", request_id="r")
        assert not restore_secret(tx, SHOP, "shopify-token", utc_now(), by="ada", request_id="r")
    assert token(engine) == TOKEN

    with transaction(engine) as tx:
        tx.exec_driver_sql("update shop_secrets set name = 'retired:' || name, expires_at = now()")
        assert delete_retired_secrets(tx, utc_now() + timedelta(seconds=1)) == 1
    assert rows(engine, "select count(*) from shop_secrets") == [(0,)]
    assert timedelta(days=7) == SECRETS_KEPT
