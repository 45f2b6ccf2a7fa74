"""``python -m tests.chaos`` checks that faults lose nothing, repeat nothing and leave nothing stuck.

Starts a durable fleet in a temporary home, sends webhooks without a pause, and injects one fault after the
other. Within a minute of each fault, without a person, every acknowledged webhook has its row and its effect
once, every audit chain verifies, and no worker ended unnecessarily. Exit code 0 if all checks pass.
"""

import argparse
import json
import os
import random
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from services.audit.signing import make_signer
from services.audit.verify import VerifyOptions, verify_audit
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.demo import checks
from services.demo.day import plan_opening
from services.demo.delivery import Delivery
from services.demo.directory import isolated_environment, use_fleet_settings
from services.demo.expected import recompute
from services.demo.figures import read_figures, read_outside, read_state, wait_settled
from services.demo.providers import count_stock_levels
from services.demo.sender import WebhookPoster
from services.demo.shops import find_owning, make_shops, record_shops
from services.fleet.ports import LOOPBACK
from services.fleet.up import RunningFleet, start_fleet
from services.providers.object_store import open_store
from services.shops.shops import OF_POOL
from tests.chaos.faults import FAULTS, Fault, Outages
from tests.chaos.traffic import Traffic, make_posts

RECOVER_WITHIN_SECONDS = 60.0
BEFORE_SECONDS, AFTER_SECONDS = 3.0, 3.0
RESULT = Path(__file__).parents[2] / "docs" / "benchmarks" / "chaos.json"


@dataclass(slots=True)
class Outcome:
    """Result of one fault."""

    fault: str
    acknowledged: int
    lost: int
    applied_twice: int
    recovery_seconds: float
    workers_ended: int
    failed: list[str] = field(default_factory=list)


class Chaos:
    """A fleet under load, and the webhooks sent to it."""

    def __init__(self, fleet: RunningFleet, per_second: float, outages: Outages) -> None:
        self._fleet, self._per_second, self._outages = fleet, per_second, outages
        now = utc_now()
        rng = random.Random(7)
        # Every push sets a count, so the result does not depend on the order of arrival.
        self._shops = [
            replace(shop, stock_owner="shopfleet") if shop.stock_owner.startswith(OF_POOL) else shop
            for shop in make_shops(rng)
        ]
        with transaction() as tx:
            record_shops(tx, self._shops, now)
        self._sandbox_url = f"http://{LOOPBACK}:{fleet.values['SANDBOX_PORT']}"
        ingress_url = f"http://{LOOPBACK}:{fleet.values['INGRESS_PORT']}"
        self._sender = WebhookPoster(ingress_url, self._sandbox_url, self._shops, give_up_after_seconds=180)
        self._posts = make_posts(self._shops, rng, now)
        self._sent: list[Delivery] = plan_opening(self._shops, rng, now).accepted
        self._sender.send_all(self._sent)
        wait_settled(RECOVER_WITHIN_SECONDS)
        count_stock_levels(self._shops, now)
        for shop in self._shops:
            self._sender.control({"shop": shop.domain, "slow_seconds": 0.2})
        wait_settled(RECOVER_WITHIN_SECONDS)

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()

    def run_fault(self, fault: Fault) -> Outcome:
        """Inject ``fault`` under load and return its outcome."""
        supervisor, answers = self._fleet.supervisor, self._sender.answers
        acknowledged = len(answers.ids)
        starts = _worker_starts(self._fleet)
        traffic = Traffic(self._sender, self._posts, self._per_second)
        traffic.start()
        time.sleep(BEFORE_SECONDS)
        fault.inject(self._fleet, self._outages)
        over_at = time.monotonic()
        time.sleep(AFTER_SECONDS)
        traffic.stop()
        waiting = wait_settled(2 * RECOVER_WITHIN_SECONDS)
        recovery_seconds = time.monotonic() - over_at
        supervisor.wait_healthy(RECOVER_WITHIN_SECONDS)
        self._sent += traffic.sent

        sent = list(dict.fromkeys(self._sent))
        figures, outside = read_figures(self._fleet.home / "mail"), read_outside(self._sandbox_url)
        ended = _worker_starts(self._fleet) - starts
        held = [
            checks.check_accounts(answers, figures),
            checks.check_settled(waiting),
            checks.check_dead(sent, figures),
            *checks.check_effects(recompute(sent, find_owning(self._shops), {}), read_state(), outside),
        ]
        failed = [f"{check.name}: {check.seen}" for check in held if not check.holds]
        failed += answers.wrong[:3]
        failed += _find_broken_chains()
        if recovery_seconds > RECOVER_WITHIN_SECONDS:
            failed.append(f"took {recovery_seconds:.0f} s to recover")
        if fault.keeps_workers and ended:
            failed.append(f"{ended} workers ended")
        return Outcome(
            fault=fault.name,
            acknowledged=len(answers.ids) - acknowledged,
            lost=len(answers.ids - figures.event_ids),
            applied_twice=sum(count > 1 for count in outside.applied.values()),
            recovery_seconds=round(recovery_seconds, 1),
            workers_ended=ended,
            failed=failed,
        )


def _find_broken_chains() -> list[str]:
    """Return what is wrong with the audit's chains: a gap, a fork or a misplaced row."""
    settings = get_settings()
    with transaction() as tx:
        report = verify_audit(
            tx, VerifyOptions(full=True), make_signer(settings), open_store(settings.archive_url)
        )
    return [str(found) for found in report.findings] + ([] if report.rows else ["nothing was audited"])


def _worker_starts(fleet: RunningFleet) -> int:
    return sum(count for name, count in fleet.supervisor.restarts().items() if name.startswith("worker-"))


def main() -> int:
    """Run the faults once, or again until ``--minutes`` are over; return 0 if all checks passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--events", type=float, default=30, help="webhooks a second (default 30)")
    parser.add_argument(
        "--minutes", type=float, default=0, help="repeat the faults until this time has passed"
    )
    parser.add_argument("--quick", action="store_true", help="outages of seconds instead of a minute")
    parser.add_argument("--only", default="", help="only faults whose name contains this")
    parser.add_argument("--keep", type=Path, help="an empty folder for the fleet, which keeps its log")
    args = parser.parse_args()
    outages = Outages(broker=10.0, database=5.0) if args.quick else Outages()
    wanted = [fault for fault in FAULTS if args.only in fault.name]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="shopfleet-chaos-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        home = args.keep.resolve() if args.keep else Path(folder) / "fleet"
        home.mkdir(parents=True, exist_ok=True)
        with isolated_environment(home), (home / "fleet.log").open("w") as out:
            os.environ["LOG_LEVEL"] = "warning"
            with (
                start_fleet(home, auto_ports=True, sandbox=True, out=out) as fleet,
                use_fleet_settings(fleet.values),
            ):
                fleet.supervisor.wait_healthy(90)
                chaos = Chaos(fleet, args.events, outages)
                outcomes = _run_rounds(chaos, wanted, args.minutes)
                chaos.close()
    failed = [outcome for outcome in outcomes if outcome.failed]
    if not args.only and not args.quick:  # only a full run is recorded
        _write(outcomes, args.events, outages)
    print("all checks passed" if not failed else f"{len(failed)} faults failed a check")
    return 1 if failed else 0


def _run_rounds(chaos: Chaos, wanted: list[Fault], minutes: float) -> list[Outcome]:
    outcomes: list[Outcome] = []
    until = time.monotonic() + minutes * 60
    print(f"{'fault':<26}{'acknowledged':>13}{'lost':>6}{'twice':>7}{'recovery':>10}  workers ended")
    while not outcomes or time.monotonic() < until:
        for fault in wanted:
            outcome = chaos.run_fault(fault)
            outcomes.append(outcome)
            print(
                f"{outcome.fault:<26}{outcome.acknowledged:>13}{outcome.lost:>6}{outcome.applied_twice:>7}"
                f"{outcome.recovery_seconds:>8.1f} s  {outcome.workers_ended}",
                flush=True,
            )
            for what in outcome.failed:
                print(f"    WRONG: {what}", flush=True)
    return outcomes


def _write(outcomes: list[Outcome], per_second: float, outages: Outages) -> None:
    result = {
        "name": "chaos",
        "measured_at": utc_now().isoformat(timespec="seconds"),
        "settings": {"events_per_second": per_second, "cores": os.cpu_count(), **_named(outages)},
        "holds": not any(outcome.failed for outcome in outcomes),
        "faults": [asdict(outcome) for outcome in outcomes],
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _named(outages: Outages) -> dict[str, float]:
    return {f"{name}_away_seconds": seconds for name, seconds in asdict(outages).items()}


if __name__ == "__main__":
    raise SystemExit(main())
