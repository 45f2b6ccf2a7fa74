"""The embedded Valkey: on loopback, with a password, without persistence.

The ledger sends again the messages that a restart loses.
"""

import socket
from pathlib import Path
from urllib.parse import quote

from services.fleet.child import Account, Program
from services.fleet.embedded.postgres import SERVER_ENV
from services.fleet.embedded.state import make_folder, write_private
from services.fleet.ports import LOOPBACK


def plan_program(
    valkey: Path, area: Path, account: Account | None, password: str, log: Path, port: int
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
        log=log,
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_ready(password: str, _pid: int | None, port: int) -> bool:
    """Return whether the server answers an authenticated ping."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as link:
            link.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            with link.makefile("rb") as answers:
                return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
    except OSError:
        return False


def url_for(password: str, port: int) -> str:
    """Return the broker's URL over loopback."""
    return f"redis://:{quote(password, safe='')}@{LOOPBACK}:{port}/0"
