"""Signatures of Shopify's and Stripe's Node packages are accepted, and ours by them."""

import fcntl
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.core.clock import utc_now
from services.core.errors import WebhookRejected
from services.providers.shopify import read_shopify_delivery, sign_shopify
from services.providers.stripe import read_stripe_delivery, sign_stripe
from services.sandbox.payloads.catalogue import make_items
from services.sandbox.payloads.orders import make_order
from services.sandbox.payloads.templates import dump

HERE = Path(__file__).parent / "node"
SHOPIFY_SECRET, STRIPE_SECRET = "0f3c9b8a7d6e5f4c", "whsec_5f2a9c"
RunNode = Callable[..., dict[str, object]]


def install(folder: Path) -> None:
    for name in ("package.json", "package-lock.json", "sign.mjs"):
        shutil.copy(HERE / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150, check=False)
    if ended.returncode:
        pytest.skip(f"npm could not install the packages: {ended.stderr[-300:]}")
    (folder / "installed").touch()


@pytest.fixture(scope="module")
def run_node(tmp_path_factory: pytest.TempPathFactory) -> RunNode:
    """Run the Node script; its packages are installed once, outside the project."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed here")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "node"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes share one installation
        if not (folder / "installed").exists():
            install(folder)

    def run(act: str, provider: str, secret: str, body: bytes, headers: dict[str, str] | None = None):
        request = {
            "act": act,
            "provider": provider,
            "secret": secret,
            "body": body.decode(),
            "headers": headers,
        }
        ended = subprocess.run(
            ["node", "sign.mjs"],
            cwd=folder,
            input=json.dumps([request]),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(ended.stdout)[0]

    return run


@pytest.fixture(scope="module")
def order() -> bytes:
    rng = random.Random(1)
    return dump(make_order(rng, make_items(rng, 3), placed_at=datetime(2026, 11, 21, tzinfo=UTC)))


def lower(headers):
    return {name.lower(): value for name, value in headers.items()}


def test_shopify_signs_and_we_accept(run_node, order):
    headers = lower(run_node("sign", "shopify", SHOPIFY_SECRET, order))

    delivery = read_shopify_delivery(headers, order, [SHOPIFY_SECRET.encode()], utc_now())

    assert (delivery.topic, delivery.key) == ("orders/create", json.loads(order)["admin_graphql_api_id"])
    with pytest.raises(WebhookRejected):
        read_shopify_delivery(headers, order[:-1] + b" ", [SHOPIFY_SECRET.encode()], utc_now())


def test_we_sign_and_shopify_accepts(run_node, order):
    headers = sign_shopify(
        order,
        SHOPIFY_SECRET.encode(),
        topic="orders/create",
        webhook_id="b54557e4",
        domain="ada.myshopify.com",
        now=utc_now(),
        event_id="98880550",
    )

    answer = run_node("verify", "shopify", SHOPIFY_SECRET, order, headers)
    assert (answer["valid"], answer["webhookId"]) == (True, "b54557e4")
    assert run_node("verify", "shopify", SHOPIFY_SECRET, order + b" ", headers)["valid"] is False


def test_stripe_signs_and_we_accept(run_node):
    body = b'{"id":"evt_1","type":"charge.succeeded","created":1795262400,"data":{"object":{"id":"ch_1"}}}'
    headers = lower(run_node("sign", "stripe", STRIPE_SECRET, body))

    assert read_stripe_delivery(headers, body, [STRIPE_SECRET.encode()], utc_now()).key == "ch_1"


def test_we_sign_and_stripe_accepts(run_node, order):
    headers = sign_stripe(order, STRIPE_SECRET.encode(), now=utc_now())

    assert run_node("verify", "stripe", STRIPE_SECRET, order, headers) == {"valid": True}
    assert run_node("verify", "stripe", STRIPE_SECRET, order + b" ", headers)["valid"] is False
