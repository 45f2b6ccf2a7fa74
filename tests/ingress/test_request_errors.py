"""Each request that is answered with 5xx has a row, without secrets and bodies; commands show it."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.ingress.app import Ingress
from services.ingress.request_stats import MAX_ERRORS, RequestStats
from services.ledger.request_errors import RequestError, clean_text, list_errors
from services.providers.delivery import MAX_TEXT
from tests.cli.commands import run
from tests.fakes.tcp_proxy import TcpProxy
from tests.ingress.conftest import SHOPIFY_SECRET
from tests.ingress.posting import post_charge, post_order
from tests.ingress.rsgi import Client

SENT_AGAIN = "The provider sent it again, and it was recorded: fleet events show "


def show(request_id: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run("errors", "show", request_id, "--json").output)
    return document


def wait_until_accepted(client: Client, webhook_id: str) -> int:
    deadline = time.monotonic() + 60
    while (answer := post_order(client, webhook_id=webhook_id)).status_code != 200:
        assert time.monotonic() < deadline
    return int(answer.json["id"])


def test_a_webhook_that_failed_is_found_by_its_request_id_and_later_with_its_event(
    client: Client, ingress: Ingress, database_proxy: TcpProxy
) -> None:
    database_proxy.cut()
    failed = post_order(client, webhook_id="w-9", body=b'{"id": 1, "email": "ada@example.com"}')
    assert failed.status_code == 503
    ingress.stats.flush()  # the database is away: the row is kept
    database_proxy.restore()
    wait_until_accepted(client, "another")
    ingress.stats.flush()

    found = show(failed.headers["X-Request-Id"])
    assert found["request"] == {
        "method": "POST",
        "path": "/webhooks/shopify/acme",
        "provider": "shopify",
        "topic": "orders/create",
        "delivery_key": "w-9",
    }
    kept = {name: found[name] for name in ("shop", "route", "status", "staff_label", "event_id", "mutations")}
    assert kept == {
        "shop": "acme",
        "route": "/webhooks/shopify",
        "status": 503,
        "staff_label": "",
        "event_id": None,
        "mutations": [],
    }
    assert found["error_class"] in ("OperationalError", "ConnectionTimeout", "AdminShutdown")
    text = run("errors", "show", found["request_id"]).output
    assert "ada@example.com" not in text + json.dumps(found)
    assert SHOPIFY_SECRET not in text + json.dumps(found)
    assert "The provider has not sent it again yet" in text

    event_id = wait_until_accepted(client, "w-9")
    assert show(found["request_id"])["event_id"] == event_id
    assert SENT_AGAIN + str(event_id) in run("errors", "show", found["request_id"]).output


def test_an_unverified_sender_leaves_only_the_ids_of_its_headers(
    client: Client, ingress: Ingress, database_proxy: TcpProxy, engine: Engine
) -> None:
    database_proxy.cut()
    forged = post_order(client, shop="nobody\0", secret="forged", webhook_id="ada@example.com\x07")
    assert forged.status_code == 503
    database_proxy.restore()
    wait_until_accepted(client, "another")
    ingress.stats.flush()

    with transaction(engine) as tx:
        (found,) = list_errors(tx)
    assert (found.shop_id, found.error_class, found.reason) == (
        None,
        "Unavailable",
        "the secrets cannot be read now",
    )
    assert found.request == {
        "method": "POST",
        "path": r"'/webhooks/shopify/nobody\x00'",
        "x-shopify-topic": "orders/create",
        "x-shopify-webhook-id": r"'[email]\x07'",
    }


def test_a_webhook_that_a_pause_refuses_is_no_error(client: Client, ingress: Ingress, engine: Engine) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql("insert into pauses (mode, created_by) values ('refuse', 'ada')")
    ingress.secrets.reload()
    assert post_charge(client).status_code == 503
    ingress.stats.flush()

    with transaction(engine) as tx:
        assert list_errors(tx) == []


def make_error(number: int, **values: Any) -> RequestError:
    given = {
        "request_id": f"r{number}", "at": utc_now() - timedelta(minutes=number), "shop": "acme",
        "route": "/cron/<job>", "status": 503, "error_class": "AdminShutdown", "reason": "",
        "staff_label": "cron secret", "request": {"method": "POST", "path": "/cron/a"},
    }  # fmt: skip
    return RequestError(**(given | values))


@pytest.fixture
def stats(engine: Engine, shop_id: int) -> RequestStats:
    return RequestStats(engine)


def test_errors_in_memory_have_a_limit(stats: RequestStats, engine: Engine) -> None:
    for number in range(MAX_ERRORS + 5):
        stats.add_error(make_error(number))
    stats.flush()

    with transaction(engine) as tx:
        assert len(list_errors(tx, limit=MAX_ERRORS * 2)) == MAX_ERRORS


def test_errors_are_listed_by_time_class_shop_and_route(stats: RequestStats) -> None:
    stats.add_error(make_error(1))
    stats.add_error(make_error(90, error_class="KeyError"))
    stats.add_error(make_error(2, shop="?", route="/"))
    stats.flush()

    def find(*options: str) -> list[str]:
        return [row["request_id"] for row in json.loads(run("errors", "list", "--json", *options).output)]

    assert find() == ["r1", "r2", "r90"]
    assert find("--since", "1h") == ["r1", "r2"]
    assert find("--class", "KeyError") == ["r90"]
    assert find("--shop", "acme") == ["r1", "r90"]
    assert find("--route", "/") == ["r2"]
    shown = run("errors", "list", "--class", "KeyError").output
    assert all(text in shown for text in ("r90", "acme", "/cron/<job>", "503", "KeyError", "cron secret"))


def test_what_was_committed_under_the_request_id_is_shown(stats: RequestStats) -> None:
    changed = run("shops", "set", "acme", "--name", "New", "--as", "ada")
    assert changed.exit_code == 0, changed.output
    with transaction() as tx:
        request_id = tx.exec_driver_sql("select request_id from audit_events order by id desc").scalar()
    stats.add_error(make_error(1, request_id=request_id))
    stats.flush()

    (mutation,) = show(str(request_id))["mutations"]
    assert (mutation["staff_label"], mutation["table_name"]) == ("ada", "shops")


def test_an_unknown_request_or_class_is_refused(stats: RequestStats) -> None:
    stats.add_error(make_error(1))
    stats.flush()
    for words, message in (
        (("show", "nothing"), "no error of the request 'nothing' is recorded"),
        (("list", "--class", "AdminShutdwn"), "did you mean 'AdminShutdown'?"),
        (("list", "--route", "/cron"), "'/cron' should be one of /cron/<job>"),
    ):
        refused = run("errors", *words)
        assert refused.exit_code == 2
        assert message in refused.output


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/c/%2B4915112345678", "/c/[phone]"),
        ("/c/4915112345678/mails", "/c/[phone]/mails"),
        ("/c/ada%40example.com", "/c/[email]"),
        ("/c/ada%2540example.com", "/c/[email]"),
        ("/incidents/1234567", "/incidents/1234567"),
        ("w-4915112345678", "w-4915112345678"),
    ],
)
def test_a_path_is_kept_without_addresses_and_phone_numbers(path: str, kept: str) -> None:
    assert clean_text(path) == kept


def test_an_address_at_the_end_of_a_long_path_is_not_cut_in_two() -> None:
    assert "ada" not in clean_text("x" * (MAX_TEXT - 6) + "/ada@example.com")
