"""``python -m benchmarks.run WHAT``: measure, print a table, write a JSON file."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks import (
    alerts,
    audit_verify,
    audit_write,
    console,
    conversations,
    idle,
    ingress,
    ingress_figures,
    latency,
    mail,
    ours,
    outreach,
    reconcile,
    retention,
    strangers,
    workers,
)
from benchmarks.ingress_ways import WAYS as INGRESS_WAYS
from benchmarks.processes import ROOT, BenchmarkFailed
from benchmarks.results import Report, print_table, write_json
from benchmarks.rows import make_empty_template
from benchmarks.servers import Servers, server_versions, serving
from benchmarks.ways import Effect, IngressWay, WorkerWay
from benchmarks.worker_ways import WAYS as WORKER_WAYS


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the requested benchmarks; return 1 if one could not be measured."""
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    wanted = [*_MEASURES, "idle"] if args.what == "all" else [args.what]
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home:
            reports = _idle(args) if "idle" in wanted else []
            with serving(Path(home)) as servers:
                make_empty_template(servers)
                for name in wanted:
                    reports += _MEASURES[name](servers, args) if name in _MEASURES else []
                versions = server_versions(servers)
        for report in reports:
            print_table(report)
            if args.out:
                print(f"wrote {write_json(report, args.out, versions).name}", file=sys.stderr)
    except BenchmarkFailed as failed:
        print(f"benchmark failed: {failed}\n{failed.detail}", file=sys.stderr)
        return 1
    return 1 if any(report.not_run for report in reports) else 0


def _ingress(servers: Servers, args: argparse.Namespace) -> list[Report]:
    ways: list[IngressWay] = _chosen([*INGRESS_WAYS, ours.INGRESS], args.only)
    return [
        ingress.measure(servers, ways, rounds=args.rounds, seconds=args.seconds, clients=clients)
        for clients in args.clients
    ]


def _ingress_figures(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return [
        ingress_figures.measure(servers, rounds=args.rounds, seconds=args.seconds, clients=args.clients[0])
    ]


def _strangers(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return [strangers.measure(servers, rounds=args.rounds, seconds=args.seconds)]


def _workers(servers: Servers, args: argparse.Namespace, effect: Effect = "orders") -> list[Report]:
    ways: list[WorkerWay] = _chosen([*WORKER_WAYS, ours.SAME_EFFECT, ours.WORKERS], args.only)
    return [
        workers.measure(
            servers,
            ways,
            rounds=args.rounds,
            seconds=args.seconds,
            fast_rows=args.rows,
            slow_rows=args.slow_rows,
            effect=effect,
        )
    ]


def _latency(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return [latency.measure(servers, ours.fleets(args.only), seconds=args.latency_seconds)]


def _audit_write(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return audit_write.measure(servers, rounds=args.rounds, rows=args.rows)


def _audit_verify(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return audit_verify.measure(servers, rounds=args.rounds, rows=args.audit_rows)


def _mail(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return [mail.measure(servers, rounds=args.rounds, delay_ms=ms, only=args.only) for ms in (0, 10)]


def _outreach(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return [outreach.measure(servers, people=args.people)]


def _reconcile(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return reconcile.measure(servers, rounds=args.rounds, rows=args.reconcile_rows)


def _retention(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return retention.measure(servers, old_rows=args.old_rows)


def _conversations(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return [conversations.measure(servers, seconds=args.conversation_seconds)]


def _alerts(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return alerts.measure(servers, rounds=args.rounds, shops=args.shops)


def _console(servers: Servers, args: argparse.Namespace) -> list[Report]:
    return console.measure(
        servers, rounds=5, shops=args.shops, work_rows=args.work_rows, viewer_seconds=args.viewer_seconds
    )


def _idle(args: argparse.Namespace) -> list[Report]:
    return [idle.measure(ours.idle_fleet, seconds=args.idle_seconds)]


_MEASURES: dict[str, Callable[[Servers, argparse.Namespace], list[Report]]] = {
    "ingress": _ingress,
    "ingress-figures": _ingress_figures,
    "workers": _workers,
    "stock": partial(_workers, effect="stock"),
    "pushes": partial(_workers, effect="pushes"),
    "latency": _latency,
    "strangers": _strangers,
    "mail": _mail,
    "outreach": _outreach,
    "audit-write": _audit_write,
    "audit-verify": _audit_verify,
    "reconcile": _reconcile,
    "retention": _retention,
    "alerts": _alerts,
    "console": _console,
    "conversations": _conversations,
}


Way = TypeVar("Way", IngressWay, WorkerWay)


def _chosen(ways: list[Way], only: str) -> list[Way]:
    wanted = [part.strip().lower() for part in only.split(",") if part.strip()]
    chosen = [way for way in ways if not wanted or any(part in way.name.lower() for part in wanted)]
    if not chosen:
        raise BenchmarkFailed(f"--only {only!r} names none of: {'; '.join(way.name for way in ways)}")
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("what", choices=(*_MEASURES, "idle", "all"))
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; the result is the median")
    parser.add_argument("--seconds", type=float, default=10, help="length of a round")
    parser.add_argument("--clients", type=int, nargs="+", default=[128], help="connections at once (ingress)")
    parser.add_argument("--rows", type=int, default=60_000, help="prepared rows (workers)")
    parser.add_argument(
        "--audit-rows", type=int, default=1_000_000, help="length of the chain (audit-verify)"
    )
    parser.add_argument(
        "--reconcile-rows", type=int, default=1_000_000, help="rows per side (reconcile); 100000 is quick"
    )
    parser.add_argument(
        "--old-rows", type=int, default=1_000_000, help="old rows (retention); 5000000 takes an hour"
    )
    parser.add_argument("--shops", type=int, default=1_000, help="shops (alerts, console)")
    parser.add_argument(
        "--work-rows", type=int, default=1_000_000, help="work (console); 10000000 takes half an hour"
    )
    parser.add_argument("--viewer-seconds", type=float, default=120, help="watching 20 viewers (console)")
    parser.add_argument("--people", type=int, default=100_000, help="people (outreach); 20000 is quick")
    parser.add_argument("--slow-rows", type=int, default=10_000, help="rows for the slow ways (workers)")
    parser.add_argument("--latency-seconds", type=float, default=30, help="posting at 10/s for this long")
    parser.add_argument("--idle-seconds", type=float, default=60, help="watching an idle fleet for this long")
    parser.add_argument(
        "--conversation-seconds", type=float, default=180, help="length of each way (conversations)"
    )
    parser.add_argument("--only", default="", help="parts of names of ways, separated by commas")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder for the JSON")
    parser.add_argument("--no-write", dest="out", action="store_const", const=None, help="write no JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
