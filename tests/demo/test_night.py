"""The night of the demo closes the planned days, also if midnight has passed at a shop since the plan."""

import random
import threading
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine
from werkzeug.serving import make_server

from services.console.app import make_app
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.ports import LOOPBACK
from services.core.settings import Settings
from services.demo.night import Operator
from services.demo.shops import make_shops, record_shops
from services.jobs.store import record_jobs
from tests.jobs.cron_client import SECRET
from tests.jobs.job_rows import make_job

_RUNS = """
select s.slug, r.period from job_runs r join shops s on s.id = r.shop_id where r.job = 'daily-reconciliation'
"""


@pytest.fixture
def console(settings: Settings) -> Iterator[dict[str, Any]]:
    server = make_server(LOOPBACK, 0, make_app(settings))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield {"CONSOLE_PORT": server.port, "CRON_SECRET": SECRET}
    server.shutdown()
    thread.join()


@pytest.mark.parametrize("hours", [0, 24, 31])
def test_the_planned_days_are_closed_whatever_the_time_is(
    engine: Engine, console: dict[str, Any], hours: int
) -> None:
    planned_at = utc_now() - timedelta(hours=hours)
    shops = make_shops(random.Random(1))
    with transaction(engine) as tx:
        record_jobs(tx, [make_job(name="daily-reconciliation")], utc_now())
        record_shops(tx, shops, planned_at)
    stage: Any = SimpleNamespace(say=lambda _: None)
    fleet: Any = SimpleNamespace(values=console)

    Operator(stage, fleet, planned_at).start_night(shops)

    with transaction(engine) as tx:
        found = {(slug, period) for slug, period in tx.exec_driver_sql(_RUNS)}
    assert found == {(shop.slug, shop.yesterday(planned_at)[0].isoformat()) for shop in shops}
