"""Serve the ingress: granian, a few processes, an event loop each. ``python -m services.ingress.serve``."""

import gc
import importlib

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from services.core.crypto import SEALING
from services.core.log import granian_log_config
from services.core.settings import get_settings


def main() -> None:
    """Serve until told to stop; a stop finishes the requests in hand."""
    settings = get_settings()
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
        # Requests in hand at once in a process; what comes beyond them stays in the socket's own queue.
        backpressure=settings.ingress_requests,
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=8,
        log_dictconfig=granian_log_config(settings, "ingress"),
    ).serve()


if __name__ == "__main__":
    main()
