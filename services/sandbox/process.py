"""Runs a server of the sandbox: loopback only, until Ctrl-C or SIGTERM."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from socketserver import TCPServer


def run_server(title: str, port: int, open_server: Callable[[int], TCPServer], note: str = "") -> int:
    """Serve until interrupted; return 0, or 1 with a message that names the port if it is taken."""
    try:
        server = open_server(port)
    except OSError as error:
        sys.stderr.write(f"{title}: port {port} on 127.0.0.1 cannot be used: {error.strerror}\n")
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), server:
        bound = server.server_address[1]
        sys.stderr.write(f"SANDBOX - not for production: {title} on 127.0.0.1:{bound}{note}\n")
        sys.stderr.flush()
        server.serve_forever(poll_interval=0.2)
    return 0
