"""``python -m tests.chaos`` checks that faults lose nothing, repeat nothing and leave nothing stuck.

Starts a durable fleet in a temporary home, sends webhooks without a pause, and injects one fault after the
other. Within a minute of each fault, without a person, every acknowledged webhook has its row and its effect
once, every audit chain verifies, and no worker ended unnecessarily. Exit code 0 if all checks pass.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from services.core.clock import utc_now
from tests.chaos.faults import FAULTS, Fault, Outages
from tests.chaos.fleet import Chaos, Outcome, open_chaos

RESULT = Path(__file__).parents[2] / "docs" / "benchmarks" / "chaos.json"


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
        with open_chaos(home, args.events, outages) as chaos:
            outcomes = _run_rounds(chaos, wanted, args.minutes)
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
