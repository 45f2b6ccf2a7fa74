"""The usual ways to process queued work, all with the same effect on the same rows, two processes each."""

from collections.abc import Sequence

from benchmarks.processes import NODE_FOLDER, PEERS_PYTHON, Argv, run_once
from benchmarks.ways import Bench, WorkerWay, peer_env, why_no_node_peers, why_no_python_peers

PLAIN = "plain Celery, prefork -c2"
PGBOSS = "pg-boss in sets of 4000"
LOOP = "limit: bare loop, sets of 100"
_BIN = PEERS_PYTHON.parent
_HERE = "benchmarks.peers_workers"


def _python_way(name: str, module: str, *commands: Argv, can_push: bool = False) -> WorkerWay:
    def fill(bench: Bench, count: int) -> None:
        argv: Argv = [PEERS_PYTHON, "-m", f"{_HERE}.fill", module, str(count)]
        run_once(argv, log=bench.logs / f"{module}.log", env=peer_env(bench))

    def workers(bench: Bench, count: int) -> Sequence[Argv]:
        url = bench.servers.broker_url
        return [[str(part).replace("{broker}", url) for part in command] for command in commands]

    return WorkerWay(name=name, fill=fill, workers=workers, why_not=why_no_python_peers, can_push=can_push)


def _fill_pgboss(bench: Bench, count: int) -> None:
    log = bench.logs / "pgboss.log"
    run_once(["node", "pgboss_fill.js", str(count)], log=log, env=peer_env(bench), cwd=NODE_FOLDER)


def _loop_workers(bench: Bench, count: int) -> Sequence[Argv]:
    return [[PEERS_PYTHON, "-m", f"{_HERE}.bare_loop", str(which), str(count)] for which in (0, 1)]


_HUEY = (_BIN / "huey_consumer", f"{_HERE}.huey_peer.huey", "-k", "thread", "-w", "8", "-n", "-q")
_RQ = (_BIN / "rq", "worker", "-u", "{broker}", "-w", "rq.SimpleWorker", "-q", "webhooks")
_PROCRASTINATE = (_BIN / "procrastinate", "-a", f"{_HERE}.procrastinate_peer.app", "worker", "-c", "8")

WAYS = (
    _python_way(
        PLAIN,
        "plain_celery",
        (_BIN / "celery", "-A", f"{_HERE}.plain_celery", "worker", "-c", "2", "-l", "WARNING"),
        can_push=True,
    ),
    _python_way(
        "Dramatiq, 2 x 8 threads",
        "dramatiq_peer",
        (_BIN / "dramatiq", f"{_HERE}.dramatiq_peer", "-p", "2", "-t", "8"),
    ),
    _python_way("huey, 2 x 8 threads", "huey_peer", _HUEY, _HUEY),
    _python_way("RQ, 2 SimpleWorkers", "rq_peer", _RQ, _RQ),
    _python_way("procrastinate, 2 x 8", "procrastinate_peer", _PROCRASTINATE, _PROCRASTINATE),
    WorkerWay(
        name=PGBOSS,
        fill=_fill_pgboss,
        workers=lambda bench, count: [["node", "pgboss_work.js"]] * 2,
        why_not=why_no_node_peers,
        is_fast=True,
        cwd=NODE_FOLDER,
    ),
    WorkerWay(
        name=LOOP,
        fill=lambda bench, count: None,
        workers=_loop_workers,
        why_not=why_no_python_peers,
        is_fast=True,
    ),
)
