"""Serves the console: ``python -m services.console.serve``."""

import gc
import logging

from flask import Flask
from granian import Granian
from granian.constants import HTTPModes, Interfaces

from services.console.app import make_app
from services.conversations.figures import collect_figures as collect_conversations
from services.core.database_url import check_database_at_start
from services.core.db import get_engine
from services.core.errors import run_process
from services.core.log import configure_logging, granian_log_config
from services.core.ports import LOOPBACK, check_port
from services.core.sentry import init_sentry
from services.core.settings import SHORTEST_SECRET, get_settings
from services.costs.figures import collect_figures as collect_costs
from services.ingress.request_stats import RequestStats
from services.jobs.tick import COLLECTORS as OF_JOBS
from services.jobs.tick import OverdueMonitor
from services.timesheets.figures import collect_figures as collect_reports

COLLECTORS = (*OF_JOBS, collect_costs, collect_conversations, collect_reports)
"""As in ``tasks.collectors``, which the console does not import."""

GC_THRESHOLD = (20_000, 20, 10)
"""A reading of 1,000 shops makes 50,000 objects that live: with Python's 700 they are visited 70 times."""

log = logging.getLogger(__name__)


def start_app() -> Flask:
    """Return the application of one server process, with logging and error reports configured.

    It also runs the overdue monitor, because another process than beat must find that beat is dead.
    """
    gc.set_threshold(*GC_THRESHOLD)
    settings = get_settings()
    configure_logging(settings, "console")
    init_sentry(settings, "console")
    for name, length in settings.short_secrets.items():
        log.warning(
            "secret_too_short",
            extra={"fields": {"setting": name, "characters": length, "needed": SHORTEST_SECRET}},
        )
    OverdueMonitor(get_engine(), COLLECTORS).start()
    stats = RequestStats(get_engine(), "console")
    stats.start()
    return make_app(settings, stats=stats)


def main() -> None:
    """Serve the console until stopped; running requests are finished.

    Listens on loopback only and ignores ``BIND_ADDRESS``: a proxy with TLS is in front of it.
    """
    settings = get_settings()
    configure_logging(settings, "console")
    check_database_at_start()
    check_port("CONSOLE_PORT", settings.console_port)
    gc.collect()
    gc.freeze()  # the server process is a fork and shares these memory pages
    Granian(
        "services.console.serve:start_app",
        factory=True,
        address=LOOPBACK,
        port=settings.console_port,
        interface=Interfaces.WSGI,
        workers=1,
        http=HTTPModes.http1,
        websockets=False,
        blocking_threads=4,
        workers_kill_timeout=5,
        respawn_failed_workers=True,
        log_dictconfig=granian_log_config(settings, "console"),
    ).serve()


if __name__ == "__main__":
    run_process(main)
