"""The night of the demo: runs the jobs as an operator does, and tests the audit proof."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from sqlalchemy import create_engine, text

from services.closing.letters import list_letters
from services.core.counts import format_count
from services.core.db import driver_url, transaction
from services.core.ports import LOOPBACK
from services.demo.report import Stage
from services.demo.shops import DemoShop, age_shops
from services.fleet.errors import FleetError
from services.fleet.up import RunningFleet
from services.shops.shops import get_shop

_PLANT = text("""
with chosen as (
  select id, staff_label from audit_events where shop_id is not null order by id
  offset (select count(*) / 2 from audit_events) limit 1
)
update audit_events e set staff_label = 'nobody' from chosen c where e.id = c.id
returning e.id, e.shop_id, e.seq, c.staff_label
""")


@dataclass(frozen=True, slots=True)
class Operator:
    """Runs ``fleet`` commands as processes, and prints their results."""

    stage: Stage
    fleet: RunningFleet
    now: datetime

    def backfill_gaps(self, shops: Sequence[DemoShop]) -> None:
        for shop in shops:
            since = shop.yesterday(self.now)[1].strftime("%Y-%m-%dT%H:%MZ")
            command = ("backfill", "run", "--shop", shop.slug, "--since", since)
            self.stage.step(f"fleet backfill run --shop {shop.slug}")
            result = self._run(*command, "--json")
            if result["exit"] != 0:
                raise FleetError(f"fleet {' '.join(command)} exits {result['exit']}: {result['output']}")
            self.stage.say(f"fleet {' '.join(command)}")

    def repair_breaks(self, shop: DemoShop) -> None:
        day = shop.yesterday(self.now)[0].isoformat()
        command = ("payments", "repair", "--shop", shop.slug, "--day", day, "--rerun")
        self.stage.step(f"fleet payments repair --shop {shop.slug}")
        self.stage.say(f"fleet {' '.join(command)}: exit {self._run(*command)['exit']}")

    def send_report(self, shop: DemoShop, name: str) -> None:
        """Start the report three times: it goes out once."""
        command = ("reports", "send", name, "--shop", shop.slug)
        self.stage.step(f"fleet reports send --shop {shop.slug}")
        exits = [self._run(*command)["exit"] for _ in range(3)]
        self.stage.say(f"fleet reports send {name!r} --shop {shop.slug}, three times: exit {exits}")

    def approve_letter(self, shop: DemoShop) -> None:
        """Mail the drafted letter to the owner of ``shop``; the others stay drafts for a person to read."""
        with transaction() as tx:
            letter = next(iter(list_letters(tx, shop_ids=[get_shop(tx, shop.slug).id])))
        self.stage.step(f"fleet letters approve {letter.id}")
        self.stage.say(f"{letter.subject}: fleet letters approve {letter.id}")
        self._run("letters", "approve", str(letter.id))

    def start_night(self, shops: Sequence[DemoShop]) -> None:
        """Start the reconciliation of the day at every shop over HTTP.

        The day is named: a shop's newest day is another one if its midnight has passed since the plan.
        """
        with transaction() as tx:
            age_shops(tx, self.now)
        values = self.fleet.values
        path = "/cron/daily-reconciliation"
        for shop in shops:
            answer = httpx.post(
                f"http://{LOOPBACK}:{values['CONSOLE_PORT']}{path}",
                params={"shop": shop.slug, "period": shop.yesterday(self.now)[0].isoformat()},
                headers={"X-Cron-Secret": values["CRON_SECRET"]},
                timeout=30,
            )
            if answer.status_code not in (200, 202):  # 200: beat has run it already
                raise FleetError(f"POST {path} answered {answer.status_code}: {answer.text[:300]}")
        self.stage.say(f"POST {path}: {format_count(len(shops), 'shop')} close their day")

    def run_job(self, job: str) -> dict[str, Any]:
        """Run ``job`` as a process; return the last JSON object of its output, and ``exit``."""
        self.stage.step(f"fleet jobs run {job}")
        result = self._run("jobs", "run", job)
        self.stage.say(f"fleet jobs run {job}: exit {result['exit']}, {result.get('stats')}")
        return result

    def send_reminders(self, ingress: str) -> dict[str, Any]:
        """Run the job ``send-reminders`` as a process that knows the public address; return its result."""
        self.stage.step("fleet jobs run send-reminders")
        result = self._run("jobs", "run", "send-reminders", "--again", PUBLIC_URL=ingress)
        self.stage.say(f"fleet jobs run send-reminders: exit {result['exit']}, {result.get('stats')}")
        return result

    def run_smoke(self, ingress: str) -> dict[str, Any]:
        """Run the test after a deploy; return its output."""
        self.stage.step("fleet smoke")
        result = self._run("smoke", "--base-url", ingress, "--json")
        self.stage.say(f"fleet smoke --base-url {ingress}: exit {result['exit']}")
        return result

    def prove(self) -> tuple[dict[str, Any], dict[str, Any], int]:
        """Verify the chains, unchanged and with one altered row; return both outputs and the row's id."""
        self.stage.step("fleet audit verify")
        clean = self._run("audit", "verify", "--full", "--json")
        rows = format_count(int(clean.get("rows", 0)), "row")
        self.stage.say(f"fleet audit verify: {rows} in {format_count(len(clean.get('chains', ())), 'chain')}")
        owner = create_engine(driver_url(self.fleet.values["MIGRATE_DATABASE_URL"]))
        try:
            with owner.begin() as tx:
                event_id, shop_id, seq, label = tx.execute(_PLANT).one()
            self.stage.step("fleet audit verify, one row altered")
            altered = self._run("audit", "verify", "--full", "--json")
            with owner.begin() as tx:
                undo = text("update audit_events set staff_label = :label where id = :id")
                tx.execute(undo, {"id": event_id, "label": label})
        finally:
            owner.dispose()
        self.stage.say(f"one row altered by hand (shop {shop_id}, seq {seq}): verify exits {altered['exit']}")
        return clean, altered, event_id

    def _run(self, *words: str, **more: str) -> dict[str, Any]:
        """Return the JSON object that the command printed, with ``exit`` and the end of its ``output``."""
        done = subprocess.run(
            [sys.executable, "-m", "services.cli.main", *words],
            env={**self.fleet.values, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=120,
        )
        start = f"\n{done.stdout}".rfind("\n{")  # of the last object: a job prints its log before it
        document = json.JSONDecoder().raw_decode(done.stdout, start)[0] if start >= 0 else {}
        return document | {"exit": done.returncode, "output": done.stdout[-300:]}
