"""The usual ways to accept a webhook, each started as its documentation advises on two cores."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.payloads import SECRET
from benchmarks.processes import NODE_FOLDER, PEERS_PYTHON, await_answer, find_free_port, running
from benchmarks.ways import Bench, IngressWay, peer_env, why_no_node_peers, why_no_python_peers

NAIVE = "naive Flask + ORM + .delay()"
FASTIFY_PG = "fastify + pg + BullMQ"
FASTIFY_ONLY = "fastify + BullMQ, AOF always"
PROCESSES = 2
THREADS = 64


@contextmanager
def serve_naive(bench: Bench) -> Iterator[str]:
    """Run gunicorn with two processes of 64 threads: the best of 2 x 4, 2 x 16, 2 x 64 and 5 x 8 here."""
    port, log = find_free_port(), bench.logs / "naive.log"
    argv = [PEERS_PYTHON, "-m", "gunicorn", "-k", "gthread", "-w", PROCESSES, "--threads", THREADS]
    argv += [
        "-b",
        f"127.0.0.1:{port}",
        "--backlog",
        "2048",
        "--no-control-socket",
        "--keep-alive",
        "30",
        "benchmarks.peers_ingress.naive:app",
    ]
    env = {**peer_env(bench), "BENCH_SECRET": SECRET, "BENCH_THREADS": str(THREADS)}
    with running([str(part) for part in argv], log=log, env=env) as process:
        await_answer(f"http://127.0.0.1:{port}/health", what="gunicorn starts", log=log, process=process)
        yield f"http://127.0.0.1:{port}/webhooks/shopify/bench"


@contextmanager
def serve_node(bench: Bench, *, script: str, is_aof: bool) -> Iterator[str]:
    """Run a Node way: one process per core behind Node's own cluster module."""
    port, log = find_free_port(), bench.logs / f"{script}.log"
    env = {
        **peer_env(bench),
        "BENCH_BROKER_URL": bench.servers.aof_broker_url if is_aof else bench.servers.broker_url,
        "BENCH_SECRET": SECRET,
        "BENCH_PORT": str(port),
        "BENCH_PROCESSES": str(PROCESSES),
        "NODE_ENV": "production",
    }
    with running(["node", script], log=log, env=env, cwd=NODE_FOLDER) as process:
        await_answer(f"http://127.0.0.1:{port}/health", what=f"{script} starts", log=log, process=process)
        yield f"http://127.0.0.1:{port}/webhooks/shopify/bench"


WAYS = (
    IngressWay(name=NAIVE, serve=serve_naive, why_not=why_no_python_peers),
    IngressWay(
        name=FASTIFY_PG,
        serve=partial(serve_node, script="pg_bullmq.js", is_aof=False),
        why_not=why_no_node_peers,
    ),
    IngressWay(
        name=FASTIFY_ONLY,
        serve=partial(serve_node, script="bullmq_only.js", is_aof=True),
        why_not=why_no_node_peers,
        has_rows=False,
    ),
)
