"""A fleet whose Sentry cannot be reached, or accepts connections and never answers."""

import socket
from pathlib import Path

import psycopg
import pytest

from services.alerts.channels import TOPIC
from services.alerts.incidents import Incident, record_incidents
from services.core.clock import utc_now
from services.core.errors import ShopfleetError
from services.demo.sender import WebhookPoster
from services.fleet.embedded.servers import EmbeddedServers
from services.ledger.accept import record_work
from services.ledger.work import FLEET, NewWork
from tests.fleet.waiting import run_within
from tests.journeys.journey_fleet import JourneyFleet, wait_for
from tests.journeys.start_fleet import start_journey_fleet
from tests.journeys.test_alerts import texts_about

pytestmark = pytest.mark.timeout(300)

ERRORS = 150
"""More than the queue of Sentry's SDK takes."""
WORK = "select status, error_code from work_queue where topic = :topic and payload ->> 'channel' = :channel"
LOCKED = "select 1 from work_queue where payload ->> 'channel' = 'sentry' and locked_at is not null"


def test_the_fleet_works_while_sentry_refuses_connections_or_never_answers_and_stops_in_time(
    servers: EmbeddedServers, environment: dict[str, str], tmp_path: Path
) -> None:
    with socket.socket() as sentry:
        sentry.bind(("127.0.0.1", 0))
        settings = {"SENTRY_DSN": f"http://key@127.0.0.1:{sentry.getsockname()[1]}/1"}
        with start_journey_fleet(servers, environment, tmp_path, "sentry", settings) as fleet:
            pids = fleet.supervisor.pids()
            report_errors(fleet, "run_too_short")
            check_work(fleet, "run_too_short", "sentry.unavailable")
            sentry.listen(512)  # and accepts nothing
            report_errors(fleet, "volume_too_small")
            check_work(fleet, "volume_too_small", "sentry.no_answer")
            assert fleet.supervisor.pids() == pids
            stop(fleet)
    log = (tmp_path / "log").read_text()

    assert "did not end in time" not in log


def report_errors(fleet: JourneyFleet, rule: str) -> None:
    """Cause bugs in the ingress and in a worker, each of which is reported to Sentry."""
    shop = fleet.shops[1]
    delivery, _ = fleet.make_order(shop, fleet.reserve_item(shop))
    items = [
        NewWork(shop_id=FLEET, topic=TOPIC, key=f"{rule} {number}", payload={"channel": "none"})
        for number in range(ERRORS)
    ]
    with fleet.engine.begin() as tx:
        record_work(tx, items, utc_now())
    ingress_url = f"http://127.0.0.1:{fleet.env['INGRESS_PORT']}"
    once = WebhookPoster(ingress_url, fleet.sandbox_url, fleet.shops, give_up_after_seconds=0)
    with psycopg.connect(fleet.env["MIGRATE_DATABASE_URL"], autocommit=True) as owner:
        owner.execute("alter table inbound_events rename to inbound_events_away")
        try:
            for _ in range(ERRORS):
                with pytest.raises(ShopfleetError, match="was not accepted: 50"):
                    run_within(lambda: once.send(delivery), seconds=60)
        finally:
            owner.execute("alter table inbound_events_away rename to inbound_events")


def check_work(fleet: JourneyFleet, rule: str, code: str) -> None:
    """Check that orders are recorded, and that Slack gets an alert while Sentry's message has ``code``."""
    shop = fleet.shops[1]
    orders = [fleet.sell(shop, fleet.reserve_item(shop)) for _ in range(5)]
    with fleet.engine.begin() as tx:
        record_incidents(tx, [Incident(None, rule, "2026-11-28", "P3", "as planned")], utc_now())
    wait_for(lambda: fleet.count_orders(orders) == len(orders), seconds=120)
    wait_for(lambda: texts_about(fleet, rule, "opened"), seconds=90)
    wait_for(lambda: ("error", code) in fleet.select(WORK, topic=TOPIC, channel="sentry"), seconds=90)


def stop(fleet: JourneyFleet) -> None:
    """Stop the fleet while a worker waits for Sentry's answer."""
    fleet.execute("update work_queue set next_retry_at = now() where payload ->> 'channel' = 'sentry'")
    wait_for(lambda: fleet.select(LOCKED), seconds=60)
    fleet.supervisor.stop()
