"""The demo: starts the fleet, posts a day's webhooks, causes faults, runs the nightly jobs, and checks."""

import contextlib
import os
import random
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from datetime import datetime
from pathlib import Path

import redis
from rich.console import Console
from sqlalchemy import text

from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.files import open_private
from services.core.ports import LOOPBACK
from services.core.settings import Settings
from services.demo import checks, hours, people, providers, report
from services.demo.day import plan_day, plan_opening
from services.demo.delivery import DayPlan
from services.demo.directory import PORTS, clear_home, isolated_environment, use_fleet_settings
from services.demo.expected import recompute
from services.demo.figures import (
    Figures,
    SandboxFigures,
    read_figures,
    read_outside,
    read_state,
    wait_settled,
)
from services.demo.night import Operator
from services.demo.report import Stage
from services.demo.sender import Answers, WebhookPoster
from services.demo.shops import FOLLOWER, LEADER, POOL, DemoShop, find_owning, make_shops, record_shops
from services.demo.viewer import add_viewer
from services.fleet.processes import Supervisor
from services.fleet.up import RunningFleet, start_fleet

JOBS = (
    "weekly-owner-digest",
    "owner-letter",
    "monthly-close",
    "audit-anchor",
    "audit-verify",
    "run-due-reports",
)

START_SECONDS = 90.0
SETTLE_SECONDS = 90.0

# It starts below zero: a small bucket would not throttle the few push calls of a day.
_SMALL_BUCKET = {"maximum": 100.0, "restore_per_second": 60.0, "available": -300.0}
_USUAL_BUCKET = {"maximum": 2000.0, "restore_per_second": 100.0}

_LOCKED = text(
    "select count(*) from work_queue where topic = :topic and locked_by like :worker"
    " and locked_at is not null and status in ('pending', 'error')"
)

Played = tuple[Answers, Figures, SandboxFigures, list[checks.Check]]


def run_demo(
    console: Console, home: Path, *, seed: int, events: int, auto_ports: bool, stays_up: bool
) -> list[checks.Check]:
    """Run the demo and print the result; return the checks that do not hold.

    ``stays_up`` keeps the fleet running until Ctrl-C. Raises ``FleetError`` when it cannot
    start, ``ShopfleetError`` when ingress does not accept a webhook.
    """
    home = home.resolve()
    clear_home(home)
    log = home / "logs" / "fleet.log"
    with ExitStack() as stack:
        stack.callback(console.print, f"\nThe fleet's log: {log}", soft_wrap=True)
        stack.enter_context(isolated_environment(home))
        out = stack.enter_context(open(log, "w", encoding="utf-8", opener=open_private))
        with Stage(console) as stage:
            stage.begin("starting the fleet")
            usual = {each.name.upper(): str(each.default) for each in fields(Settings)}
            wanted = {name: os.environ.get(name) or usual[name] for name in PORTS}
            fleet = stack.enter_context(start_fleet(home, auto_ports=auto_ports, sandbox=True, out=out))
            stack.enter_context(use_fleet_settings(fleet.values))
            for name, port in wanted.items():
                if fleet.values[name] != port:
                    stage.say(f"port {port} ({name}) is taken: {fleet.values[name]} instead")
            fleet.supervisor.wait_healthy(START_SECONDS)
            answers, figures, outside, checked = _play(stage, fleet, random.Random(seed), events)  # noqa: S311
        report.print_table(console, answers, figures, outside)
        report.print_incidents(console, figures)
        report.print_checks(console, checked)
        if stays_up:
            report.print_next(console, fleet.values, home, log, add_viewer())
            console.print("\nCtrl-C stops it.")
            with contextlib.suppress(KeyboardInterrupt):
                fleet.supervisor.wait()
    return [check for check in checked if not check.holds]


def _play(stage: Stage, fleet: RunningFleet, rng: random.Random, events: int) -> Played:
    now = utc_now()
    shops = make_shops(rng)
    with transaction() as tx:
        record_shops(tx, shops, now)
    opening, day = plan_opening(shops, rng, now), plan_day(shops, rng, events, now)
    ingress, sandbox = (
        f"http://{LOOPBACK}:{fleet.values[name]}" for name in ("INGRESS_PORT", "SANDBOX_PORT")
    )
    with contextlib.closing(WebhookPoster(ingress, sandbox, shops)) as sender:
        providers.open_workspaces(shops, sender.control)
        stage.begin("the shops open", len(opening.posts))
        sender.send_all(opening.posts, stage.go)
        _settle(stage, "the shops open")
        providers.count_stock_levels(shops, now)
        providers.fill_pool(shops, now)
        hours.connect_company(shops[0], now, sender.control)
        people.import_demo_people(shops[0], now)
        stage.say("harbour owns its stock figures and has counted; Shopify owns linden's")
        stage.say(f"{LEADER} and {FOLLOWER} share their stock: pool {POOL}")
        _play_day(stage, fleet, sender, shops, day)
        _settle(stage, "remaining work")
        return _play_night(stage, fleet, sender, shops, (opening, day), now)


def _play_day(
    stage: Stage, fleet: RunningFleet, sender: WebhookPoster, shops: Sequence[DemoShop], day: DayPlan
) -> None:
    """Post the day's webhooks; meanwhile kill workers, flush the broker and make Shopify fail."""
    providers.load_providers(shops, [*day.accepted, *day.lost], sender.control)
    stage.say(f"{format_count(len(day.lost), 'webhook')} will be lost")
    throttled, failing, slow = (shop.domain for shop in (shops[3], shops[0], shops[2]))
    sender.control({"shop": throttled, "bucket": _SMALL_BUCKET})
    stage.say(f"{throttled} throttles from now on")
    # One fault each: one call pushes all waiting levels, and each failure doubles their wait.
    sender.control(
        {"shop": failing, "fail_next": {"status": 503, "count": 1}, "drop_next": 1, "stale_next": 1}
    )
    stage.say(f"{failing} fails a call, loses an answer, and returns once that the stock has changed")
    sender.control({"shop": slow, "slow_seconds": 0.3})
    total = len(day.posts)
    stage.begin("the day", total)

    def kill_outbound() -> None:
        locked = kill_with_locked_work(fleet.supervisor, "worker-outbound", "inventory_push")
        stage.say(
            f"worker-outbound killed with SIGKILL; it had locked {format_count(locked, 'call')} to Shopify"
        )

    def kill_webhooks() -> None:
        fleet.supervisor.kill("worker-webhooks")
        stage.say("worker-webhooks killed with SIGKILL")

    def flush() -> None:
        stage.say(
            f"the broker flushed: {format_count(flush_broker(fleet.values['BROKER_URL']), 'key')} deleted"
        )

    faults = {total // 6: kill_outbound, total // 3: kill_webhooks, total * 2 // 3: flush}
    running: list[threading.Thread] = []

    def sent(count: int) -> None:
        stage.go(count)
        if fault := faults.get(count):
            running.append(threading.Thread(target=fault, name="fault"))
            running[-1].start()

    try:
        sender.send_all(day.posts, sent)
    finally:
        for thread in running:
            thread.join()
    sender.control({"shop": slow, "slow_seconds": 0})


def _play_night(
    stage: Stage,
    fleet: RunningFleet,
    sender: WebhookPoster,
    shops: Sequence[DemoShop],
    plans: tuple[DayPlan, DayPlan],
    now: datetime,
) -> Played:
    """Backfill lost webhooks, close the day, repair its breaks, and test the audit proof."""
    opening, day = plans
    operator = Operator(stage, fleet, now)
    for shop in shops:  # the faults must not affect the backfill
        no_failure = {"fail_next": {"status": 503, "count": 0}, "drop_next": 0, "stale_next": 0}
        sender.control({"shop": shop.domain, "bucket": _USUAL_BUCKET} | no_failure)
    expected = recompute([*opening.accepted, *day.deliveries], find_owning(shops), {FOLLOWER: LEADER})
    stage.begin("backfill", len(shops) + 1)
    stage.step("the state that the webhooks describe")
    providers.set_shopify_levels(
        shops, expected.levels, read_outside(sender.sandbox_url).levels, sender.control
    )
    operator.backfill_gaps(shops)
    _settle(stage, "lost webhooks")
    stage.begin("the night starts")
    providers.alter_stripe(shops, day, sender.control)
    operator.start_night(shops)
    _settle(stage, "the night's jobs")
    night = read_figures(fleet.home / "mail")
    stage.begin("the morning", 4 + len(JOBS))
    operator.repair_breaks(shops[0])
    operator.send_report(shops[0], hours.REPORT)
    ingress = f"http://{LOOPBACK}:{fleet.values['INGRESS_PORT']}"
    reminders = operator.send_reminders(ingress)
    clicks = people.unsubscribe_first(ingress)
    stage.say(f"a person unsubscribes with one click: {clicks}")
    jobs = [operator.run_job(job) for job in JOBS]
    operator.approve_letter(shops[0])
    waiting = _settle(stage, "the last mails")
    stage.begin("the proof", 4)
    proof = operator.prove()
    stage.step("reading the figures")
    figures, outside = read_figures(fleet.home / "mail"), read_outside(sender.sandbox_url)
    checked = [
        checks.check_accounts(sender.answers, figures),
        *checks.check_answers(plans, sender.answers),
        checks.check_settled(waiting),
        checks.check_dead([*opening.accepted, *day.accepted], figures),
        checks.check_incidents(figures),
        checks.check_backfilled(day, figures),
        *checks.check_effects(expected, read_state(), outside),
        *checks.check_night(day, len(shops), night, figures),
        checks.check_jobs(jobs),
        checks.check_reports(figures, len(hours.RECIPIENTS)),
        checks.check_letter(figures),
        checks.check_reminders(figures, reminders, clicks, people.REMINDED),
        *checks.check_proof(*proof),
        checks.check_smoke(operator.run_smoke(ingress)),  # last: it adds a shop and events
    ]
    return sender.answers, figures, outside, checked


def flush_broker(url: str) -> int:
    """Delete everything in the broker; return the number of keys."""
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        count = int(client.dbsize())
        client.flushall()
    return count


def kill_with_locked_work(supervisor: Supervisor, name: str, topic: str) -> int:
    """Kill worker ``name`` while it has locked items of ``topic`` (or after 5 s); return how many it had."""
    deadline = time.monotonic() + 5
    locked = 0
    while not locked and time.monotonic() < deadline:
        with transaction() as tx:
            locked = int(tx.scalar(_LOCKED, {"topic": topic, "worker": f"{name}@%"}) or 0)
        time.sleep(0.01)
    supervisor.kill(name)
    return locked


def _settle(stage: Stage, what: str) -> int:
    most = 0

    def show(waiting: int) -> None:
        nonlocal most
        if waiting > most:
            most = waiting
            stage.begin(what, most)
        stage.go(most - waiting)

    return wait_settled(SETTLE_SECONDS, report=show)
