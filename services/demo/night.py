"""The night of the demo: its jobs are started as an operator would, and the proof is put to the test."""

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


def heal_gaps(stage: Stage, fleet: RunningFleet, shops: Sequence[DemoShop], now: datetime) -> None:
    """What the providers list of the day, and no webhook told, has entered by the same door."""
    for shop in shops:
        _, begins = shop.yesterday(now)
        since = begins.strftime("%Y-%m-%dT%H:%MZ")
        done = _fleet(fleet, "backfill", "run", "--shop", shop.slug, "--since", since, "--json")
        if done.returncode != 0:
            raise FleetError(
                f"fleet backfill run --shop {shop.slug} exits {done.returncode}: {done.stdout[-300:]}"
            )
        stage.say(f"fleet backfill run --shop {shop.slug} --since {since}")


def mend_breaks(stage: Stage, fleet: RunningFleet, shop: DemoShop, now: datetime) -> None:
    """What a lost webhook explains of the shop's breaks is brought in, and the day is compared again."""
    day = shop.yesterday(now)[0].isoformat()
    done = _fleet(fleet, "payments", "repair", "--shop", shop.slug, "--day", day, "--rerun")
    stage.say(f"fleet payments repair --shop {shop.slug} --day {day} --rerun: exit {done.returncode}")


def start_night(stage: Stage, fleet: RunningFleet, now: datetime) -> None:
    """The reconciliation of the day that was played is under way at every shop, asked for over HTTP."""
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
    """Job ``job`` has run in a process of its own; return what its last line said."""
    done = _fleet(fleet, "jobs", "run", job)
    lines = done.stdout.strip().splitlines()
    said: dict[str, Any] = orjson.loads(lines[-1]) if lines else {}
    stage.say(f"fleet jobs run {job}: exit {done.returncode}, {said.get('stats')}")
    return said | {"exit": done.returncode}


def prove(stage: Stage, fleet: RunningFleet) -> Proof:
    """The chains were verified, then with one row altered by the tables' owner, which was put back after."""
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
    said: dict[str, Any] = orjson.loads(done.stdout) if done.stdout.strip() else {}
    return said | {"exit": done.returncode}


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
