"""Number of project files that run for one order, from the HTTP request to its rows.

``make trace`` prints the table of the README.
"""

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.settings import Settings
from services.ledger.topics import TOPICS
from services.providers.shopify import sign_shopify
from tests.ingress.conftest import SHOPIFY_SECRET
from tests.ingress.rsgi import Client, running
from tests.shopify import sample_payloads

ROOT = Path(__file__).parents[2]
OURS = (str(ROOT / "services"), str(ROOT / "tasks"))
AT_MOST = 44
"""Files whose functions run for one order: from the bytes of the request to the commit of its rows.

On a slow machine the secrets are read again for the second order, which is one more file.
"""
BY_TIME = "services/ingress/connections.py"
"""Its watch of idle connections runs now and then, whether or not an order comes."""


@contextmanager
def counting_calls() -> Iterator[Counter[str]]:
    """Count the calls of each project file, in all threads that start inside."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _value: object) -> None:
        # Figures are written every few seconds, not for an order.
        is_for_orders = threading.current_thread().name != "request-stats"
        if event == "call" and is_for_orders and frame.f_code.co_filename.startswith(OURS):
            calls[frame.f_code.co_filename] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.fixture
def calls(settings: Settings, environment: dict[str, str], shop_id: int, broker_url: str) -> Counter[str]:
    """The calls for one order, after another one that filled the caches."""
    from tasks.runner import run_message

    with counting_calls() as calls, running(settings) as ingress:
        client = Client(ingress)
        for number in (1, 2):
            calls.clear()
            order = sample_payloads.order(number=number)
            headers = sign_shopify(
                order.body,
                SHOPIFY_SECRET.encode(),
                topic="orders/updated",
                webhook_id=f"w-{number}",
                domain="acme.myshopify.com",
            )
            answer = client.post("/webhooks/shopify/acme", data=order.body, headers=headers)
            assert answer.status_code == 200, answer.data
            assert run_message(TOPICS["order_ingest"], [answer.json["id"]])["done"] == 1
        return Counter(calls)  # without the figures that are written at the end


def test_one_order_runs_through_few_files(calls: Counter[str], engine: Engine) -> None:
    with transaction(engine) as tx:
        assert tx.exec_driver_sql("select count(*) from orders").scalar() == 2
    files = sorted({str(Path(path).relative_to(ROOT)) for path in calls} - {BY_TIME})
    print(f"\n{len(files)} files for one order, from the request to its rows:")
    for name in files:
        print(f"  {name:<50} {calls[str(ROOT / name)]:>4} calls")
    assert len(files) <= AT_MOST
