"""``python -m tasks worker|beat|flower`` starts the processes of ``celery -A tasks ...`` with less memory.

Celery's command loads all its plug-ins and a prompt, which cost 20 MB in each process of an embedded fleet.
"""

import argparse

from celery.utils.nodenames import default_nodename, host_format

from services.core.errors import describe_unknown, run_process
from services.ledger.topics import QUEUES
from tasks.celery import app
from tasks.flower import run_flower


def main() -> int:
    """Run a worker, beat or Flower until stopped; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("beat", help="start due jobs; only one beat is active")
    kinds.add_parser("flower", help="show workers and tasks in a browser")
    worker = kinds.add_parser("worker", help="run work; example: python -m tasks worker -Q webhooks -c 2")
    worker.add_argument("-Q", "--queues", required=True, type=_queues, help="queues, comma-separated")
    worker.add_argument("-c", "--concurrency", type=_children, default=1, help="child processes")
    worker.add_argument("-n", "--hostname", default="", help="node name, such as webhooks@%%h")
    options = parser.parse_args()
    if options.kind != "worker":
        app.conf.include = ()  # beat and Flower use only the names of tasks
    if options.kind == "flower":
        return run_flower(app)
    if options.kind == "beat":
        app.Beat(loglevel="WARNING", quiet=True).run()
        return 0
    node = app.Worker(
        hostname=host_format(default_nodename(options.hostname)),
        queues=options.queues,
        concurrency=options.concurrency,
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    node.start()
    return int(node.exitcode or 0)


def _children(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text}: a whole number of child processes, 1 or more")
    return int(text)


def _queues(text: str) -> str:
    for name in text.split(","):
        if name not in QUEUES:
            raise argparse.ArgumentTypeError(describe_unknown(name, QUEUES))
    return text


if __name__ == "__main__":
    run_process(main)
