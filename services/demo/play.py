"""The demo: starts the fleet, posts a day's webhooks, causes faults, runs the night's jobs, and checks."""

import contextlib
import os
import random
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from rich.console import Console

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.files import open_private
from services.core.settings import Settings
from services.demo import checks, report
from services.demo.day import plan_day, plan_opening
from services.demo.delivery import DayPlan
from services.demo.directory import clear_home, isolated_environment, use_fleet_settings
from services.demo.expected import recompute
from services.demo.faults import Throttle, flush_broker, kill_with_locked_work
from services.demo.figures import (
    Figures,
    SandboxFigures,
    read_figures,
    read_outside,
    read_state,
    wait_settled,
)
from services.demo.night import backfill_gaps, prove, repair_breaks, run_job, start_night
from services.demo.providers import (
    alter_stripe,
    count_stock_levels,
    fill_pool,
    load_providers,
    set_shopify_levels,
)
from services.demo.report import Stage
from services.demo.sender import Answers, WebhookPoster
from services.demo.shops import FOLLOWER, LEADER, POOL, DemoShop, find_owning, make_shops, record_shops
from services.fleet.ports import LOOPBACK
from services.fleet.up import RunningFleet, start_fleet

JOBS = ("weekly-owner-digest", "monthly-close", "audit-anchor", "audit-verify")
"""Jobs that run as an operator runs them, each in a process of its own."""

START_SECONDS = 90.0
SETTLE_SECONDS = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """The result of the demo."""

    answers: Answers
    figures: Figures
    outside: SandboxFigures
    checks: Sequence[checks.Check]


def run_demo(
    console: Console, home: Path, *, seed: int, events: int, auto_ports: bool, stays_up: bool
) -> list[checks.Check]:
    """Play the demo and print the result; return the checks that do not hold.

    ``stays_up`` keeps the fleet running afterwards until Ctrl-C. Raises ``FleetError`` when it cannot
    start, ``NotTaken`` when ingress does not accept a webhook.
    """
    home = home.resolve()
    clear_home(home)
    log = home / "logs" / "fleet.log"
    with ExitStack() as stack:
        stack.callback(_say_log, console, log)
        stack.enter_context(isolated_environment(home))
        out = stack.enter_context(open(log, "w", encoding="utf-8", opener=open_private))
        with report.stage(console) as stage:
            stage.begin("starting the fleet")
            wanted = _wanted_ports()
            fleet = stack.enter_context(start_fleet(home, auto_ports=auto_ports, sandbox=True, out=out))
            stack.enter_context(use_fleet_settings(fleet.values))
            _say_ports(stage, wanted, fleet.values)
            fleet.supervisor.wait_healthy(START_SECONDS)
            played = _play(stage, fleet, random.Random(seed), events)  # noqa: S311 - a made-up day
        report.print_table(console, played.answers, played.figures, played.outside)
        report.print_checks(console, played.checks)
        failed = [check for check in played.checks if not check.holds]
        if stays_up:
            report.print_next(console, fleet.values, home, log)
            console.print("\nCtrl-C stops it.")
            with contextlib.suppress(KeyboardInterrupt):
                fleet.supervisor.wait()
    return failed


def _play(stage: Stage, fleet: RunningFleet, rng: random.Random, events: int) -> Played:
    now = utc_now()
    shops = make_shops(rng)
    with transaction() as tx:
        record_shops(tx, shops, now)
    opening, day = plan_opening(shops, rng, now), plan_day(shops, rng, events, now)
    sandbox_url = f"http://{LOOPBACK}:{fleet.values['SANDBOX_PORT']}"
    sender = WebhookPoster(f"http://{LOOPBACK}:{fleet.values['INGRESS_PORT']}", sandbox_url, shops)
    try:
        stage.begin("the shops open", len(opening.posts))
        sender.send_all(opening.posts, stage.go)
        _settle(stage, "the shops open")
        count_stock_levels(shops, now)
        fill_pool(shops, now)
        stage.say("harbour owns its stock figures and counted; linden's are Shopify's")
        stage.say(f"{LEADER} and {FOLLOWER} sell from one shelf: pool {POOL}")
        _play_day(stage, fleet, sender, shops, day)
        _settle(stage, "work goes on")
        return _play_night(stage, fleet, sender, shops, (opening, day), now)
    finally:
        sender.close()


def _play_night(
    stage: Stage,
    fleet: RunningFleet,
    sender: WebhookPoster,
    shops: Sequence[DemoShop],
    plans: tuple[DayPlan, DayPlan],
    now: datetime,
) -> Played:
    """Backfill what was lost, close the day, repair its breaks, and test the audit proof."""
    opening, day = plans
    for shop in shops:  # the day's faults end here: they must not disturb the backfill
        sender.control(
            {"shop": shop.domain, "fail_next": {"status": 503, "count": 0}, "drop_next": 0, "stale_next": 0}
        )
        sender.control(Throttle(maximum=2000.0, restore_per_second=100.0).as_control(shop.domain))
    expected = recompute([*opening.accepted, *day.deliveries], find_owning(shops), {FOLLOWER: LEADER})
    stage.begin("backfill")
    set_shopify_levels(shops, expected.levels, read_outside(sender.sandbox_url).levels, sender.control)
    backfill_gaps(stage, fleet, shops, now)
    _settle(stage, "what was lost")
    stage.begin("the night")
    alter_stripe(shops, day, sender.control)
    start_night(stage, fleet, now)
    _settle(stage, "the night's jobs")
    night = read_figures(fleet.home / "mail")
    repair_breaks(stage, fleet, shops[0], now)
    jobs = [run_job(stage, fleet, job) for job in JOBS]
    waiting = _settle(stage, "the last mails")
    proof = prove(stage, fleet)
    figures, outside = read_figures(fleet.home / "mail"), read_outside(sender.sandbox_url)
    sent = [*opening.accepted, *day.accepted]
    return Played(
        answers=sender.answers,
        figures=figures,
        outside=outside,
        checks=[
            checks.check_accounts(sender.answers, figures),
            *checks.check_answers((opening, day), sender.answers),
            checks.check_settled(waiting),
            checks.check_dead(sent, figures),
            checks.check_backfilled(day, figures),
            *checks.check_effects(expected, read_state(), outside),
            *checks.check_night(day, len(shops), night, figures),
            checks.check_jobs(jobs),
            *checks.check_proof(proof),
        ],
    )


def _play_day(
    stage: Stage, fleet: RunningFleet, sender: WebhookPoster, shops: Sequence[DemoShop], day: DayPlan
) -> None:
    """Post the day's webhooks; meanwhile kill workers, flush the broker and make Shopify fail."""
    load_providers(shops, [*day.accepted, *day.lost], sender.control)
    stage.say(f"{len(day.lost)} webhooks will be lost on the way")
    throttled, failing, slow = (shop.domain for shop in (shops[3], shops[0], shops[2]))
    sender.control(Throttle().as_control(throttled))
    stage.say(f"{throttled} throttles from now on")
    sender.control(
        {"shop": failing, "fail_next": {"status": 503, "count": 1}, "drop_next": 1, "stale_next": 1}
    )
    # Once each: all that is waiting goes out in one call, and each failure doubles its wait.
    stage.say(f"{failing} fails a call, loses the answer to another, and says once that the stock moved")
    sender.control({"shop": slow, "slow_seconds": 0.3})
    stage.begin("the day", len(day.posts))
    total = len(day.posts)

    def kill_outbound() -> None:
        held = kill_with_locked_work(fleet.supervisor, "worker-outbound", "inventory_push")
        stage.say(f"worker-outbound killed with SIGKILL; it had {held} calls to Shopify in hand")

    def kill_webhooks() -> None:
        fleet.supervisor.kill("worker-webhooks")
        stage.say("worker-webhooks killed with SIGKILL")

    def flush() -> None:
        stage.say(f"the broker flushed: {flush_broker(fleet.values['BROKER_URL'])} keys gone")

    due = {total // 6: kill_outbound, total // 3: kill_webhooks, total * 2 // 3: flush}
    running: list[threading.Thread] = []

    def sent(count: int) -> None:
        stage.go(count)
        if fault := due.pop(count, None):
            running.append(threading.Thread(target=fault, name="fault"))
            running[-1].start()

    try:
        sender.send_all(day.posts, sent)
    finally:
        for thread in running:
            thread.join()
    sender.control({"shop": slow, "slow_seconds": 0})


def _settle(stage: Stage, what: str) -> int:
    most = 0

    def fewer(waiting: int) -> None:
        nonlocal most
        if waiting > most:
            most = waiting
            stage.begin(what, most)
        stage.go(most - waiting)

    return wait_settled(SETTLE_SECONDS, fewer=fewer)


def _say_log(console: Console, log: Path) -> None:
    if log.exists():
        console.print(f"\nThe fleet's log: {log}", soft_wrap=True)


def _wanted_ports() -> dict[str, str]:
    names = ("ingress_port", "console_port", "flower_port")
    usual = {each.name: each.default for each in fields(Settings) if each.name in names}
    return {name.upper(): os.environ.get(name.upper()) or str(port) for name, port in usual.items()}


def _say_ports(stage: Stage, wanted: dict[str, str], values: dict[str, str]) -> None:
    for name, port in wanted.items():
        if values[name] != port:
            stage.say(f"port {port} ({name}) is taken: {values[name]} instead")
