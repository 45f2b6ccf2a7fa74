"""The embedded Valkey: on loopback, with a password, without persistence.

The ledger sends again the messages that a restart loses.
"""

import signal
import socket
import time
from pathlib import Path
from urllib.parse import quote

from services.fleet.child import Account, Child, Program
from services.fleet.embedded.postgres import SERVER_ENV
from services.fleet.embedded.state import end_orphans, make_folder, tail, write_private
from services.fleet.errors import ServerFailed
from services.fleet.ports import LOOPBACK


def valkey_program(
    valkey: Path, area: Path, account: Account | None, *, port: int, password: str, log: Path
) -> Program:
    """Return how to run the server. The password is in a private file, never on the command line."""
    data = make_folder(area / "valkey", 0o700, account)
    settings = {
        "bind": LOOPBACK,
        "port": str(port),
        "protected-mode": "yes",
        "requirepass": password,
        "dir": str(data),
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",  # a broker that evicts loses messages without a word
        "loglevel": "notice",
    }
    path = make_folder(area / "run", 0o711) / "valkey.conf"
    write_private(path, "".join(f"{name} {_quoted(value)}\n" for name, value in settings.items()), account)
    return Program(
        name="valkey",
        argv=(str(valkey), str(path)),
        env=SERVER_ENV,
        cwd=data,
        account=account,
        stop_signal=signal.SIGTERM,
        log=log,
        prepare=lambda: end_orphans(data, "valkey-server", signal.SIGTERM),
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def wait_until_ready(child: Child, port: int, password: str, *, timeout_seconds: float = 20.0) -> None:
    """Return once the server answers an authenticated ping; ``ServerFailed`` if it does not."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline and child.poll() is None:
        try:
            with socket.create_connection((LOOPBACK, port), timeout=2) as link:
                link.sendall(f"AUTH {password}\r\nPING\r\n".encode())
                with link.makefile("rb") as answers:
                    if answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n":
                        return
        except OSError:
            pass
        time.sleep(0.01)
    log = child.program.log
    raise ServerFailed(f"Valkey did not start; {log} ends with:\n{tail(log) if log else ''}")


def url_for(password: str, port: int) -> str:
    """Return the broker's URL over loopback."""
    return f"redis://:{quote(password, safe='')}@{LOOPBACK}:{port}/0"
