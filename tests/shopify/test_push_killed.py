"""A worker is killed (SIGKILL) after the change at Shopify and before its commit: nothing is done twice."""

import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.sweep import free_expired
from tests.journeys.journey_fleet import wait_for
from tests.shopify.sample_payloads import ITEM, rows
from tests.shopify.test_push_journey import DOMAIN, OUTCOMES, applied, control, push, sandbox, stock_up

__all__ = ["sandbox"]

WORKER = """
import random
from services.core.db import get_engine
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.shopify.stock.push import InventoryPushHandler
ExternalRunner(get_engine(), "doomed", random.Random(1)).run_batch(
    TOPICS["inventory_push"], InventoryPushHandler()
)
"""
COUNT = 40
OPEN = "select 1 from work_queue where status in ('pending', 'error')"


@pytest.mark.parametrize("bad", [0, 1], ids=["in its call", "in the call for the rest"])
def test_batch_of_a_killed_worker_is_done_once(
    engine: Engine,
    sandbox: str,
    bad: int,
) -> None:
    stock_up(engine, sandbox, range(ITEM + 1, ITEM + COUNT + 1))
    control(sandbox, shop=DOMAIN, slow_seconds=1.0 if bad else 4.0)
    control(sandbox, shop=DOMAIN, deleted_items=[ITEM + n for n in range(1, bad + 1)])
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=dict(os.environ))
    try:
        if bad:
            wait_for(lambda: answered(sandbox))
            control(sandbox, shop=DOMAIN, slow_seconds=4.0)
        wait_for(lambda: len(applied(sandbox)) == COUNT - bad)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert rows(engine, "select count(*) from work_queue where locked_by is not null") == [(COUNT,)]

    control(sandbox, shop=DOMAIN, slow_seconds=0)
    with transaction(engine) as tx:
        free_expired(tx, utc_now() + timedelta(minutes=2))
    wait_for(lambda: is_over(engine))

    assert sorted(applied(sandbox)) == [(10, 9)] * (COUNT - bad)
    outcome_codes = Counter(row[:2] for row in rows(engine, OUTCOMES))
    refused = {("done", "in_sync"): COUNT - bad, ("done", "not_stocked"): bad}
    assert outcome_codes == (refused if bad else {("done", "pushed"): COUNT})
    in_step = "select count(*) from inventory_levels where shopify_available = 9"
    assert rows(engine, in_step) == [(COUNT - bad,)]


def is_over(engine: Engine) -> bool:
    """Run a worker once; return whether nothing is left to do."""
    push(engine)
    return not rows(engine, OPEN)


def answered(url: str) -> bool:
    """Return whether the shop accepted a call."""
    state = httpx.get(f"{url}/_control/state").raise_for_status().json()
    return bool(state["shops"][DOMAIN]["counts"].get("answered"))
