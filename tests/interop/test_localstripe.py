"""Tests with localstripe, an independent Stripe server, and Stripe's own library.

It has an API of 2017: lists oldest first, no disputes, no events about charges, fees of zero. So it tests
lists, pages, errors and signatures, but few fields of current objects.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import stripe

from services.core.clock import utc_now
from services.core.errors import Misconfigured, WebhookRejected
from services.payments.payload import parse_transaction
from services.providers.stripe import read_stripe_delivery
from services.providers.stripe_api import fetch_object, fetch_objects

pytest.importorskip("localstripe", reason="localstripe is not installed")

KEY = "sk_test_12345"
SECRET = "whsec_localstripe"

# The original command listens on every interface and writes a pickle to /tmp; this one does not.
LAUNCHER = """
import socket
from aiohttp import web
from localstripe import resources, server
type(resources.store).dump_to_disk = lambda self: None
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
web.run_app(server.app, sock=listener, print=None)
"""


class Hooks:
    """Receives webhooks: headers and bytes as sent."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.changed = threading.Condition()
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with hooks.changed:
                    hooks.received.append(
                        ({name.lower(): value for name, value in self.headers.items()}, body)
                    )
                    hooks.changed.notify_all()
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def wait_for(self, topics: set[str]) -> None:
        with self.changed:
            assert self.changed.wait_for(
                lambda: topics <= {json.loads(b)["type"] for _, b in self.received}, 30
            )


@pytest.fixture(scope="module")
def hooks() -> Iterator[Hooks]:
    started = Hooks()
    yield started
    started.server.shutdown()
    started.server.server_close()


@pytest.fixture(scope="module")
def base_url(hooks: Hooks) -> Iterator[str]:
    """Run localstripe on a free loopback port; it sends its webhooks to ``hooks``."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        httpx.post(f"{url}/_config/webhooks/w1", data={"url": hooks.url, "secret": SECRET}).raise_for_status()
        yield url
    finally:
        process.terminate()
        process.wait(90)


@pytest.fixture(scope="module")
def made(base_url: str) -> dict[str, list[Any]]:
    """Objects made with Stripe's own library: more than two pages of charges, refunds, payouts."""
    client = stripe.StripeClient(KEY, base_addresses={"api": base_url}, max_network_retries=0)

    def post(path: str, **params: Any) -> Any:
        return client.raw_request("post", path, **params).data

    numbers = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2032, "cvc": "123"}
    card = post("/v1/payment_methods", type="card", card=numbers)["id"]
    charges = [post("/v1/charges", amount=1000 + n, currency="cad", source=card) for n in range(205)]
    refunds = [post("/v1/refunds", charge=charges[n]["id"], amount=100 + n) for n in range(3)]
    payouts = [post("/v1/payouts", amount=5000, currency="eur", status="paid")]  # its only currency
    return {"charges": charges, "refunds": refunds, "payouts": payouts}


@pytest.mark.parametrize("kind", ["charges", "refunds", "payouts"])
def test_every_object_is_listed_once_page_by_page(
    base_url: str, made: dict[str, list[Any]], kind: str
) -> None:
    found = list(fetch_objects(KEY, base_url, kind))

    assert sorted(one["id"] for one in found) == sorted(one["id"] for one in made[kind])


def test_every_object_is_parsed_for_the_ledger(base_url: str, made: dict[str, list[Any]]) -> None:
    now = utc_now()
    charges = {
        read.provider_id: read
        for one in fetch_objects(KEY, base_url, "charges")
        if (read := parse_transaction(one, shop_id=1, version_at=now))
    }
    (payout,) = [
        parse_transaction(one, shop_id=1, version_at=now) for one in fetch_objects(KEY, base_url, "payouts")
    ]

    assert len(charges) == 205
    assert {(read.status, read.currency) for read in charges.values()} == {("paid", "CAD")}
    assert sum(read.amount_cents for read in charges.values()) == sum(1000 + n for n in range(205))
    assert sorted(read.refunded_cents for read in charges.values())[-3:] == [100, 101, 102]
    assert payout is not None
    assert (payout.kind, payout.amount_cents, payout.status) == ("payout", 5000, "paid")


def test_single_object_is_the_one_that_the_list_has(base_url: str, made: dict[str, list[Any]]) -> None:
    charge_id = made["charges"][7]["id"]

    assert fetch_object(KEY, base_url, f"/v1/charges/{charge_id}")["amount"] == 1007


def test_refused_key_needs_a_person(base_url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        list(fetch_objects("not_a_key", base_url, "charges"))
    assert caught.value.code == "stripe.key_refused"


def test_webhooks_that_it_signs_are_accepted_and_altered_ones_refused(
    base_url: str, hooks: Hooks, made: dict[str, list[Any]]
) -> None:
    hooks.wait_for({"payout.created", "payout.paid"})
    headers, body = next(one for one in hooks.received if json.loads(one[1])["type"] == "payout.created")

    delivery = read_stripe_delivery(headers, body, [SECRET.encode()], utc_now())

    assert (delivery.topic, delivery.key) == ("payout.created", made["payouts"][0]["id"])
    assert delivery.readable
    with pytest.raises(WebhookRejected):
        read_stripe_delivery(headers, body.replace(b"5000", b"5001"), [SECRET.encode()], utc_now())
    with pytest.raises(WebhookRejected):
        read_stripe_delivery(headers, body, [SECRET.encode()], datetime.now(UTC) + timedelta(minutes=6))
