"""Serve the ingress: granian, a few processes, an event loop each. ``python -m services.ingress.serve``."""

import gc
import importlib
import resource

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from services.core.crypto import SEALING
from services.core.log import granian_log_config
from services.core.settings import get_settings

OTHER_DESCRIPTORS = 256
"""For the database, the broker, logs and modules: generous, as nothing is lost by it."""


def main() -> None:
    """Serve until told to stop; a stop finishes the requests in hand."""
    settings = get_settings()
    _allow_descriptors(settings.ingress_requests)
    # Loaded before the fork and frozen: the processes that answer share these pages.
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
        # Open connections of a process, idle or not; what comes beyond them stays in the socket's own queue.
        backpressure=settings.ingress_requests,
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=8,
        log_dictconfig=granian_log_config(settings, "ingress"),
    ).serve()


def _allow_descriptors(connections: int) -> None:
    """Each process may open ``connections`` and what else it needs, as far as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
