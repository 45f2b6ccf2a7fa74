"""The night of the demo: runs the jobs as an operator does, and tests the audit proof."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx
import orjson
from sqlalchemy import create_engine, text

from services.core.db import driver_url, transaction
from services.demo.checks import Proof
from services.demo.report import Stage
from services.demo.shops import DemoShop, age_shops
from services.fleet.errors import FleetError
from services.fleet.ports import LOOPBACK
from services.fleet.up import RunningFleet

_PLANT = text("""
with chosen as (
  select id, staff_label from audit_events where shop_id is not null order by id
  offset (select count(*) / 2 from audit_events) limit 1
)
update audit_events e set staff_label = 'nobody' from chosen c where e.id = c.id
returning e.id, e.shop_id, e.seq, c.staff_label
""")
_UNDO = text("update audit_events set staff_label = :label where id = :id")


def backfill_gaps(stage: Stage, fleet: RunningFleet, shops: Sequence[DemoShop], now: datetime) -> None:
    """Run ``fleet backfill run`` for each shop and the day."""
    for shop in shops:
        _, begins = shop.yesterday(now)
        since = begins.strftime("%Y-%m-%dT%H:%MZ")
        done = _fleet(fleet, "backfill", "run", "--shop", shop.slug, "--since", since, "--json")
        if done.returncode != 0:
            raise FleetError(
                f"fleet backfill run --shop {shop.slug} exits {done.returncode}: {done.stdout[-300:]}"
            )
        stage.say(f"fleet backfill run --shop {shop.slug} --since {since}")


def repair_breaks(stage: Stage, fleet: RunningFleet, shop: DemoShop, now: datetime) -> None:
    """Run ``fleet payments repair`` for the shop, and compare the day again."""
    day = shop.yesterday(now)[0].isoformat()
    done = _fleet(fleet, "payments", "repair", "--shop", shop.slug, "--day", day, "--rerun")
    stage.say(f"fleet payments repair --shop {shop.slug} --day {day} --rerun: exit {done.returncode}")


def start_night(stage: Stage, fleet: RunningFleet, now: datetime) -> None:
    """Start the reconciliation of the day at every shop over HTTP."""
    with transaction() as tx:
        age_shops(tx, now)
    url = f"http://{LOOPBACK}:{fleet.values['CONSOLE_PORT']}/cron/daily-reconciliation"
    answer = httpx.post(url, headers={"X-Cron-Secret": fleet.values["CRON_SECRET"]}, timeout=30)
    if answer.status_code != 202:
        raise FleetError(
            f"POST /cron/daily-reconciliation answered {answer.status_code}: {answer.text[:300]}"
        )
    stage.say(f"POST /cron/daily-reconciliation: {len(answer.json()['runs'])} shops close their day")


def run_job(stage: Stage, fleet: RunningFleet, job: str) -> dict[str, Any]:
    """Run ``job`` in a process of its own; return the last line of its output."""
    done = _fleet(fleet, "jobs", "run", job)
    lines = done.stdout.strip().splitlines()
    document: dict[str, Any] = orjson.loads(lines[-1]) if lines else {}
    stage.say(f"fleet jobs run {job}: exit {done.returncode}, {document.get('stats')}")
    return document | {"exit": done.returncode}


def prove(stage: Stage, fleet: RunningFleet) -> Proof:
    """Verify the chains, and again with one row altered by the tables' owner; then restore the row."""
    clean = _verify(fleet)
    stage.say(f"fleet audit verify: {clean.get('rows')} rows in {len(clean.get('chains', ()))} chains")
    owner = create_engine(driver_url(fleet.values["MIGRATE_DATABASE_URL"]))
    try:
        with owner.begin() as tx:
            event_id, shop_id, seq, label = tx.execute(_PLANT).one()
        altered = _verify(fleet)
        with owner.begin() as tx:
            tx.execute(_UNDO, {"id": event_id, "label": label})
    finally:
        owner.dispose()
    stage.say(f"one row altered by hand (shop {shop_id}, seq {seq}): verify exits {altered['exit']}")
    return Proof(clean=clean, altered=altered, planted_event_id=event_id)


def _verify(fleet: RunningFleet) -> dict[str, Any]:
    done = _fleet(fleet, "audit", "verify", "--full", "--json")
    document: dict[str, Any] = orjson.loads(done.stdout) if done.stdout.strip() else {}
    return document | {"exit": done.returncode}


def _fleet(fleet: RunningFleet, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *words],
        env=fleet.values,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
        timeout=120,
    )
