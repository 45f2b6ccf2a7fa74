"""The sandbox as a process: faults over HTTP, loopback only, a clean exit."""

import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from services.core.errors import WorkError
from services.providers.shopify_admin import LevelQuantity, ShopifyAdmin, ShopLevelKey

SHOP = "ada.myshopify.com"


def push(admin, quantity, change_from, item, key):
    wanted = LevelQuantity(ShopLevelKey(item, 2), quantity, change_from)
    return admin.set_available([wanted], reference="gid://shopfleet/Work/1", idempotency_key=key)


def test_faults_and_log_are_reached_over_http(start):
    _, port = start("services.sandbox.serve")
    base = f"http://127.0.0.1:{port}"

    with httpx.Client(base_url=base) as http:
        assert http.get("/").json() == {"sandbox": "provider sandbox, not for production"}
        assert (
            http.post("/_control", json={"shop": SHOP, "fail_next": {"status": 503, "count": 1}}).status_code
            == 200
        )
        admin = ShopifyAdmin(http, f"{base}/shopify/{SHOP}", "shpat_1")
        with pytest.raises(WorkError):
            push(admin, 5, 3, 1, "1")
        push(admin, 5, 3, 1, "1")

        changes = http.get("/_control/log", params={"shop": SHOP}).json()["changes"]
        state = http.get("/_control").json()["shops"][SHOP]
    assert [(one["idempotency_key"], one["from"], one["to"]) for one in changes] == [("1", 3, 5)]
    assert state["levels"] == [{"inventory_item_id": 1, "location_id": 2, "available": 5}]
    assert (state["counts"]["failed_503"], state["counts"]["answered"]) == (1, 1)


def test_nonsense_is_answered_and_does_not_end_it(start):
    process, port = start("services.sandbox.serve")
    graphql = f"/shopify/{SHOP}/admin/api/2026-07/graphql.json"
    requests = [
        ("/_control", b"{}", 400),
        ("/_control", b"[]", 400),
        ("/_control", b"{", 400),
        ("/_control", b'{"shop":"a","slow_seconds":9999}', 400),
        ("/_control", b'{"shop":"a","levels":[{}]}', 400),
        ("/_control", b'{"shop":"a","fail_next":5}', 400),
        ("/_control", b'{"shop":"a","orders":[{"id":1}]}', 400),
        ("/_control", b'{"stripe_key":"a","charges":[{"id":1}]}', 400),
        ("/elsewhere", b"{}", 404),
        (graphql, b'{"query":"{ inventoryLevel( }"}', 401),
        (graphql.replace("2026-07", "1999-01"), b"{}", 404),
    ]

    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        answers = [http.post(path, content=body).status_code for path, body, _ in requests]
        assert http.get("/").status_code == 200
    assert answers == [status for _, _, status in requests]
    assert process.poll() is None


def test_many_callers_at_once_lose_no_change(start):
    _, port = start("services.sandbox.serve")
    base = f"http://127.0.0.1:{port}"
    together = threading.Barrier(8)

    def push_often(number):
        with httpx.Client() as http:
            admin = ShopifyAdmin(http, f"{base}/shopify/{SHOP}", "shpat_1")
            together.wait(90)
            for step in range(5):
                push(admin, step + 1, step, number, f"{number}-{step}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(push_often, range(1, 9)))

    changes = httpx.get(f"{base}/_control/log").json()["changes"]
    assert len({change["idempotency_key"] for change in changes}) == len(changes) == 40


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", ["services.sandbox.serve", "services.sandbox.mail_sink"])
def test_signal_ends_it_cleanly(module, signal_number, start, tmp_path):
    process, _ = start(module, *(["--folder", str(tmp_path)] if module.endswith("sink") else []))

    process.send_signal(signal_number)

    assert process.wait(90) == 0
    assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("module", ["services.sandbox.serve", "services.sandbox.mail_sink"])
def test_taken_port_is_named(module, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", module, "--port", str(port)]
        if module.endswith("sink"):
            command += ["--folder", str(tmp_path)]

        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert f"port {port}" in ended.stderr
    assert "Traceback" not in ended.stderr
