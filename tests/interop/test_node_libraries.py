"""What Shopify's and Stripe's own Node packages sign we accept, and what we sign they accept."""

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
from services.core.errors import Rejected
from services.providers.shopify import read_shopify_delivery, sign_shopify
from services.providers.stripe import read_stripe_delivery, sign_stripe
from services.sandbox.payloads.catalogue import make_items
from services.sandbox.payloads.orders import make_order
from services.sandbox.payloads.templates import dump

HERE = Path(__file__).parent / "node"
SHOPIFY_SECRET, STRIPE_SECRET = "0f3c9b8a7d6e5f4c", "whsec_5f2a9c"
Ask = Callable[..., dict[str, object]]


def install(folder: Path) -> None:
    for name in ("package.json", "package-lock.json", "sign.mjs"):
        shutil.copy(HERE / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150, check=False)
    if ended.returncode:
        pytest.skip(f"npm could not install the packages: {ended.stderr[-300:]}")
    (folder / "installed").touch()


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Ask the Node script for one act; its packages are installed once, away from the project."""
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
        asked = {
            "act": act,
            "provider": provider,
            "secret": secret,
            "body": body.decode(),
            "headers": headers,
        }
        ended = subprocess.run(
            ["node", "sign.mjs"],
            cwd=folder,
            input=json.dumps([asked]),
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


def test_shopify_signs_and_we_accept(ask, order):
    headers = lower(ask("sign", "shopify", SHOPIFY_SECRET, order))

    delivery = read_shopify_delivery(headers, order, [SHOPIFY_SECRET.encode()], utc_now())

    assert (delivery.topic, delivery.key) == ("orders/create", json.loads(order)["admin_graphql_api_id"])
    with pytest.raises(Rejected):
        read_shopify_delivery(headers, order[:-1] + b" ", [SHOPIFY_SECRET.encode()], utc_now())


def test_we_sign_and_shopify_accepts(ask, order):
    headers = sign_shopify(
        order,
        SHOPIFY_SECRET.encode(),
        topic="orders/create",
        webhook_id="b54557e4",
        domain="ada.myshopify.com",
        now=utc_now(),
        event_id="98880550",
    )

    answer = ask("verify", "shopify", SHOPIFY_SECRET, order, headers)
    assert (answer["valid"], answer["webhookId"]) == (True, "b54557e4")
    assert ask("verify", "shopify", SHOPIFY_SECRET, order + b" ", headers)["valid"] is False


def test_stripe_signs_and_we_accept(ask):
    body = b'{"id":"evt_1","type":"charge.succeeded","created":1795262400,"data":{"object":{"id":"ch_1"}}}'
    headers = lower(ask("sign", "stripe", STRIPE_SECRET, body))

    assert read_stripe_delivery(headers, body, [STRIPE_SECRET.encode()], utc_now()).key == "ch_1"


def test_we_sign_and_stripe_accepts(ask, order):
    headers = sign_stripe(order, STRIPE_SECRET.encode(), now=utc_now())

    assert ask("verify", "stripe", STRIPE_SECRET, order, headers) == {"valid": True}
    assert ask("verify", "stripe", STRIPE_SECRET, order + b" ", headers)["valid"] is False
