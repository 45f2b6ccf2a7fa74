"""The journeys' house: on the suite's servers, with a database of its own, so that no other test meets it."""

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
import pytest

from services.core.clock import utc_now
from services.core.db import make_engine, transaction
from services.core.settings import get_settings
from services.demo.day import plan_opening
from services.demo.directory import use_fleet_settings
from services.demo.providers import count_stock_levels
from services.demo.sender import WebhookPoster
from services.demo.shops import make_shops, record_shops
from services.fleet.child import Reaper
from services.fleet.embedded.servers import EmbeddedServers
from services.fleet.ports import find_free_port
from services.fleet.process_list import plan_programs
from services.fleet.processes import Supervisor
from services.schema.migrate import apply_migrations
from tests.fakes.line import Line
from tests.journeys.running_fleet import PROCESSES, House, wait_for


@pytest.fixture(scope="session")
def house(
    servers: EmbeddedServers, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """The fleet's processes, up and serving three shops whose goods are in stock."""
    home = tmp_path_factory.mktemp("journeys home")
    with psycopg.connect(servers.admin_database_url, autocommit=True) as admin:
        admin.execute("create database journeys owner shopfleet_owner")
        admin.execute("grant connect on database journeys to shopfleet_app, shopfleet_archive")
    owner_url, app_url, archive_url = (
        _journeys(url)
        for url in (servers.migrate_database_url, servers.database_url, servers.archive_database_url)
    )
    apply_migrations(owner_url, "shopfleet_app", "shopfleet_archive")
    broker = urlsplit(servers.broker_url)
    ports = {name: str(find_free_port()) for name in ("INGRESS_PORT", "SANDBOX_PORT")}
    unused = {"CONSOLE_PORT": "1", "FLOWER_PORT": "1"}
    url = f"http://127.0.0.1:{ports['SANDBOX_PORT']}"
    with Line("127.0.0.1", servers.valkey_port) as line:
        env = environment | ports | {
            "DATABASE_URL": app_url,
            "MIGRATE_DATABASE_URL": owner_url,
            "AUDIT_ARCHIVE_DATABASE_URL": archive_url,
            "BROKER_URL": f"redis://{broker.netloc.rpartition(':')[0]}:{line.port}/1",
            "FLEET_HOME": str(home),
            "SHOPIFY_API_BASE": f"{url}/shopify",
            "STRIPE_API_BASE": f"{url}/stripe",
            "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        programs = plan_programs({**os.environ, **env, **unused}, home, home, sandbox=True, mail_sink=False)
        reaper = Reaper()
        with (home / "log").open("w") as out:
            supervisor = Supervisor([p for p in programs if p.name in PROCESSES], reaper=reaper, out=out)
            supervisor.start()
            try:
                supervisor.wait_healthy(60)
                yield from _open(supervisor, env, line)
            finally:
                supervisor.stop()
                reaper.close()


@pytest.fixture(autouse=True)
def quiet(house: House) -> Iterator[None]:
    """A journey begins when the one before it is over, and leaves nobody slowed down or held."""
    wait_for(lambda: not house.count_waiting(), seconds=90)
    yield
    for shop in house.shops:
        house.slow_down(shop, 0.0)


def _open(supervisor: Supervisor, env: dict[str, str], line: Line) -> Iterator[House]:
    rng, now = random.Random(5), utc_now()
    shops = [replace(shop, stock_owner="shopfleet") for shop in make_shops(rng)]
    engine = make_engine(env["DATABASE_URL"], application="journeys")
    with use_fleet_settings(env), transaction() as tx:
        ids = record_shops(tx, shops, now)
    sandbox_url = f"http://127.0.0.1:{env['SANDBOX_PORT']}"
    sender = WebhookPoster(f"http://127.0.0.1:{env['INGRESS_PORT']}", sandbox_url, shops)
    house = House(supervisor, env, engine, line, shops, ids, sender, sandbox_url, now)
    sender.send_all(plan_opening(shops, rng, now).posts)
    wait_for(lambda: not house.count_waiting(), seconds=60)
    get_settings.cache_clear()
    with use_fleet_settings(env):
        count_stock_levels(shops, now)
    get_settings.cache_clear()
    # Observed a minute after every order of the journeys: each left Shopify's own figure alone.
    house.write("update inventory_levels set observed_at = :at", at=now - timedelta(seconds=60))
    yield house
    sender.close()
    engine.dispose()


def _journeys(url: str) -> str:
    return url.rpartition("/")[0] + "/journeys"
