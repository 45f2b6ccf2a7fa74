"""``python -m tasks worker|beat|flower``: what ``celery -A tasks ...`` starts, without the command line.

Celery's command loads every plug-in it has and a prompt: 20 MB that each process of an embedded fleet would
keep. The worker, the beat and Flower are the same ones, with the same app.
"""

import argparse

from celery.utils.nodenames import default_nodename, host_format

from tasks.celery import app
from tasks.flower import run_flower


def main() -> int:
    """Run a worker or a beat until stopped; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("beat", help="tick while this one leads")
    kinds.add_parser("flower", help="show the backlog and the workers in a browser")
    worker = kinds.add_parser("worker", help="take work; example: python -m tasks worker -Q webhooks -c 2")
    worker.add_argument("-Q", "--queues", required=True, help="queues, with commas between")
    worker.add_argument("-c", "--concurrency", type=int, default=1, help="child processes")
    worker.add_argument("-n", "--hostname", default="", help="node name, such as webhooks@%%h")
    asked = parser.parse_args()
    if asked.kind != "worker":
        app.conf.include = ()  # tasks are known here by name, and nothing is needed of what they do
    if asked.kind == "flower":
        return run_flower(app)
    if asked.kind == "beat":
        app.Beat(loglevel="WARNING", quiet=True).run()
        return 0
    node = app.Worker(
        hostname=host_format(default_nodename(asked.hostname)),
        queues=asked.queues,
        concurrency=asked.concurrency,
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    node.start()
    return int(node.exitcode or 0)


if __name__ == "__main__":
    raise SystemExit(main())
