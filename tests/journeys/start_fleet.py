"""Starts a fleet of the journeys on the test servers, with its own database."""

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

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
from tests.fakes.tcp_proxy import TcpProxy
from tests.fakes.web import Web
from tests.journeys.journey_fleet import PROCESSES, JourneyFleet, wait_for


@contextmanager
def start_journey_fleet(
    servers: EmbeddedServers,
    environment: Mapping[str, str],
    home: Path,
    database: str,
    settings: Mapping[str, str] | None = None,
) -> Iterator[JourneyFleet]:
    """Start the processes with three shops that have stock; stop them afterwards.

    ``home`` is an empty folder, ``database`` the name of the new database. ``settings`` are in force over the
    fleet's own.
    """
    with psycopg.connect(servers.admin_database_url, autocommit=True) as admin:
        admin.execute(f"create database {database} owner shopfleet_owner".encode())
        admin.execute(f"grant connect on database {database} to shopfleet_app, shopfleet_archive".encode())
    owner_url, app_url, archive_url = (
        f"{url.rpartition('/')[0]}/{database}"
        for url in (servers.migrate_database_url, servers.database_url, servers.archive_database_url)
    )
    apply_migrations(owner_url, "shopfleet_app", "shopfleet_archive")
    broker = urlsplit(servers.broker_url)
    ports = {name: str(find_free_port()) for name in ("INGRESS_PORT", "SANDBOX_PORT")}
    unused = {"CONSOLE_PORT": "1", "FLOWER_PORT": "1"}
    url = f"http://127.0.0.1:{ports['SANDBOX_PORT']}"
    with TcpProxy("127.0.0.1", servers.valkey_port) as broker_proxy, Web() as slack:
        env = environment | ports | {
            "DATABASE_URL": app_url,
            "MIGRATE_DATABASE_URL": owner_url,
            "AUDIT_ARCHIVE_DATABASE_URL": archive_url,
            "BROKER_URL": f"redis://{broker.netloc.rpartition(':')[0]}:{broker_proxy.port}/1",
            "FLEET_HOME": str(home),
            "SHOPIFY_API_BASE": f"{url}/shopify",
            "STRIPE_API_BASE": f"{url}/stripe",
            "SLACK_WEBHOOK_URL": f"{slack.url}/services/T0/B0/journeys",
            "ALLOW_PRIVATE_URLS": "1",
            "MAIL_TRANSPORT": "file",
            "PYTHONUNBUFFERED": "1",
            **(settings or {}),
        }  # fmt: skip
        programs = plan_programs({**os.environ, **env, **unused}, home, home, sandbox=True, mail_sink=False)
        reaper = Reaper()
        with (home / "log").open("w") as out:
            supervisor = Supervisor([p for p in programs if p.name in PROCESSES], reaper=reaper, out=out)
            supervisor.start()
            try:
                supervisor.wait_healthy(60)
                yield from _open(supervisor, env, broker_proxy, slack)
            finally:
                supervisor.stop()
                reaper.close()


def _open(
    supervisor: Supervisor, env: dict[str, str], broker_proxy: TcpProxy, slack: Web
) -> Iterator[JourneyFleet]:
    rng, now = random.Random(5), utc_now()
    shops = [replace(shop, stock_owner="shopfleet") for shop in make_shops(rng)]
    engine = make_engine(env["DATABASE_URL"], application="journeys")
    with use_fleet_settings(env), transaction() as tx:
        ids = record_shops(tx, shops, now)
    sandbox_url = f"http://127.0.0.1:{env['SANDBOX_PORT']}"
    sender = WebhookPoster(f"http://127.0.0.1:{env['INGRESS_PORT']}", sandbox_url, shops)
    fleet = JourneyFleet(supervisor, env, engine, broker_proxy, slack, shops, ids, sender, sandbox_url, now)
    sender.send_all(plan_opening(shops, rng, now).posts)
    wait_for(lambda: not fleet.count_open_work(), seconds=60)
    get_settings.cache_clear()
    with use_fleet_settings(env):
        count_stock_levels(shops, now)
    get_settings.cache_clear()
    # Observed a minute after the orders of the journeys: none of them changed Shopify's own figure.
    fleet.execute("update inventory_levels set observed_at = :at", at=now - timedelta(seconds=60))
    yield fleet
    sender.close()
    engine.dispose()
