"""The seven alerts that operators want, each from its real cause to its incident, message and effect."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import psycopg
import pytest

from services.fleet.embedded.servers import EmbeddedServers
from tests.journeys.journey_fleet import JourneyFleet, wait_for
from tests.journeys.start_fleet import start_journey_fleet
from tests.journeys.test_alerts import FORGED, texts_about

pytestmark = pytest.mark.timeout(400)

BIN = Path(sys.executable).parent
RULES = {
    "requests_failed:/webhooks/shopify": "P2",
    "signature_failures:stripe": "P2",
    "database_slow": "P2",
    "audit_chain_failed": "P1",
    "sms_over_budget": "P2",
    "ai_at_cap": "P2",
    "cron_did_not_run:daily-reconciliation": "P2",
}
SUSTAINED = ("requests_failed", "database_slow")
TEN_MINUTES_PASS = (
    "update alert_states set turned_at = turned_at - interval '10 minutes' "
    "where split_part(rule, ':', 1) = any(:rules) and opened_at is null "
    "and turned_at > now() - interval '9 minutes'"
)
BEAT_WAS_AWAY = (
    "update job_schedule_state set scheduled_until = now() - interval '2 days', next_due_at = now() "
    "where job = 'daily-reconciliation' and shop_id = :shop"
)
MISSED_RUNS = """
select 1 from job_runs
 where job = 'daily-reconciliation' and shop_id = :shop and due_at < now() - interval '1 day'
"""
OPEN = "select rule, severity from incidents where status = 'open' and split_part(rule, ':', 1) = any(:rules)"


@pytest.fixture(scope="module")
def fleet(
    servers: EmbeddedServers, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JourneyFleet]:
    """A fleet of this module: its alerts stay open."""
    home = tmp_path_factory.mktemp("seven alerts")
    with start_journey_fleet(servers, environment, home, "seven_alerts") as started:
        yield started


def run_fleet(fleet: JourneyFleet, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [BIN / "fleet", *arguments], env=fleet.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@contextmanager
def repeating(act: Callable[[threading.Event], None], threads: int = 1) -> Iterator[None]:
    """Repeat ``act`` in ``threads`` threads while the block lasts."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            act(stop)

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(repeat) for _ in range(threads)]
        try:
            yield
        finally:
            stop.set()
    for one in running:
        one.result()


@contextmanager
def locked_tables(fleet: JourneyFleet) -> Iterator[None]:
    """Lock two tables of the ingress again and again, as a change of a table does, while webhooks arrive."""
    delivery, _ = fleet.make_order(fleet.shops[1], fleet.reserve_item(fleet.shops[1]))

    def lock(table: str, stop: threading.Event) -> None:
        with psycopg.connect(fleet.env["MIGRATE_DATABASE_URL"]) as owner:
            owner.execute(f"lock table {table} in access exclusive mode")
            stop.wait(2.2)
        stop.wait(0.2)

    def post(stop: threading.Event) -> None:
        fleet.sender.send(delivery)  # again after a 503, as a provider does
        stop.wait(0.5)

    with (
        repeating(partial(lock, "inbound_events")),
        repeating(partial(lock, "shop_secrets")),
        repeating(post, 3),
    ):
        yield


def test_each_cause_has_its_incident_its_message_and_its_effect(fleet: JourneyFleet) -> None:
    shop, other = fleet.shops[1].slug, fleet.shops[2].slug
    fleet.execute("update statement_stats set minute = minute - interval '1 hour'")
    base = [name.partition(":")[0] for name in RULES]
    stripe = f"http://127.0.0.1:{fleet.env['INGRESS_PORT']}/webhooks/stripe/{other}"
    for number in range(3):
        assert httpx.post(stripe, json={"id": f"evt_{number}"}, headers=FORGED).status_code == 401
    limits = ("--sms-budget", "100.00 CAD", "--ai-cap", "50.00 CAD", "--owner-email", "owner@shop.example")
    run_fleet(fleet, "shops", "set", other, *limits)
    cost = ("shops", "record-cost", other, "--currency", "CAD", "--source", "journey", "--reference", "1")
    run_fleet(fleet, *cost, "--kind", "sms", "--amount", "150.01")
    run_fleet(fleet, *cost, "--kind", "ai", "--amount", "50.00")
    wait_for(lambda: plan_missed_runs(fleet, fleet.shop_ids[other]))  # their queue has no worker here
    alter_audit(fleet, shop, "nobody")
    run_fleet(fleet, "audit", "verify", "--shop", shop, "--full", code=1)

    def find_missing() -> set[str]:
        fleet.execute(TEN_MINUTES_PASS, rules=list(SUSTAINED))
        return RULES.keys() - {rule for rule, _ in fleet.select(OPEN, rules=base)}

    with locked_tables(fleet):
        try:
            wait_for(lambda: not find_missing(), seconds=150)
        except AssertionError:
            pytest.fail(f"no incident of {find_missing()}")
    assert RULES.items() <= dict(fleet.select(OPEN, rules=base)).items()
    for rule in base:
        wait_for(lambda r=rule: len(texts_about(fleet, r, "opened")) >= 1, seconds=120)

    # The audit chain closes the deploy gate; AI at its cap is paused, and the owner is mailed.
    assert "audit_chain" in run_fleet(fleet, "gate", code=1)
    pause = "select cost, created_by from pauses where shop_id = :shop"
    assert fleet.select(pause, shop=fleet.shop_ids[other]) == [("ai", "ai-cap")]
    assert fleet.select("select recipient from mail_outbox where kind = 'ai_cap'") == [
        ("owner@shop.example",)
    ]
    alter_audit(fleet, shop, "journey")


def plan_missed_runs(fleet: JourneyFleet, shop_id: int) -> bool:
    """Return whether beat has planned runs of two days; set the job's state, which beat may write too."""
    fleet.execute(BEAT_WAS_AWAY, shop=shop_id)
    return bool(fleet.select(MISSED_RUNS, shop=shop_id))


def alter_audit(fleet: JourneyFleet, shop: str, label: str) -> None:
    """Set who made the first change of ``shop``, as somebody with the owner's role could."""
    with psycopg.connect(fleet.env["MIGRATE_DATABASE_URL"]) as owner:
        owner.execute(
            "update audit_events set staff_label = %s where shop_id = %s and seq = 1",
            [label, fleet.shop_ids[shop]],
        )
