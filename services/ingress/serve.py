"""Serve the ingress with granian, one event loop per process: ``python -m services.ingress.serve``."""

import gc
import importlib
import resource

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from services.core.crypto import SEALING
from services.core.database_url import check_database_at_start
from services.core.errors import run_process
from services.core.log import configure_logging, granian_log_config
from services.core.ports import check_port
from services.core.settings import get_settings

OTHER_DESCRIPTORS = 256
"""For the database, the broker, logs and modules."""


def main() -> None:
    """Serve until stopped; running requests are finished."""
    settings = get_settings()
    configure_logging(settings, "ingress")
    check_database_at_start()
    check_port("INGRESS_PORT", settings.ingress_port, settings.bind_address)
    _allow_descriptors(settings.ingress_requests)
    # Imported before the fork and frozen, so that the workers share these memory pages.
    for needed in ("services.ingress.app", "sqlalchemy.dialects.postgresql.psycopg", *SEALING):
        importlib.import_module(needed)
    gc.collect()
    gc.freeze()
    Granian(
        "services.ingress.app:load",
        factory=True,
        address=settings.bind_address,
        port=settings.ingress_port,
        interface=Interfaces.RSGI,
        workers=settings.ingress_workers,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
        # Connections of a process, idle ones included; more wait in the queue of the socket.
        backpressure=settings.ingress_requests,
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=8,
        log_dictconfig=granian_log_config(settings, "ingress"),
    ).serve()


def _allow_descriptors(connections: int) -> None:
    """Raise the limit of file descriptors for ``connections`` and other uses, if the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    run_process(main)
