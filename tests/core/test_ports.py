"""Ports: a second server on a taken port is refused, and a restart is not."""

import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from types import SimpleNamespace

import pytest

from services.core.errors import SettingsInvalid
from services.core.ports import LOOPBACK, check_port, find_port_fault

SERVERS = {
    "INGRESS_PORT": "services.ingress.serve",
    "CONSOLE_PORT": "services.console.serve",
    "FLOWER_PORT": "tasks flower",
}


def listen(port: int = 0) -> socket.socket:
    """Return a socket that listens as granian's do: a second one could join it."""
    server = socket.socket()
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        server.setsockopt(socket.SOL_SOCKET, option, 1)
    server.bind((LOOPBACK, port))
    server.listen()
    return server


def test_each_server_refuses_a_taken_port_and_names_the_listener(environment: dict[str, str]) -> None:
    with listen() as taken:
        port = taken.getsockname()[1]
        values = {**dict.fromkeys(SERVERS, str(port)), "FLOWER_BASIC_AUTH": "fleet:long-enough"}
        started = {
            setting: subprocess.Popen(
                [sys.executable, "-m", *words.split()],
                env=os.environ | values,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for setting, words in SERVERS.items()
        }
        for setting, process in started.items():
            _, refusal = process.communicate(timeout=120)
            assert process.returncode == 1, refusal
            assert f"port {port} ({setting}) is taken by " in refusal
            assert f"pid {os.getpid()}: stop it, or set {setting} to a free port" in refusal
            assert "Traceback" not in refusal


def test_a_port_is_waited_for_while_the_earlier_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: Queue[str] = Queue()
    monkeypatch.setattr("services.core.ports.sys.stderr", SimpleNamespace(write=shown.put))
    with listen() as earlier, ThreadPoolExecutor(1) as pool:
        port = earlier.getsockname()[1]
        waiting = pool.submit(check_port, "INGRESS_PORT", port)
        line = shown.get(timeout=60)
        earlier.close()
        waiting.result()

    assert re.search(rf"port {port} \(INGRESS_PORT\) is taken by .*: waiting up to 10 s", line)


def test_ended_connections_do_not_take_a_port() -> None:
    with listen() as server:
        port = server.getsockname()[1]
        with socket.create_connection((LOOPBACK, port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first is the one in TIME_WAIT
            assert client.recv(1) == b""
        assert find_port_fault(port) is not None

    assert find_port_fault(port) is None


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_machine_is_refused_at_once(host: str) -> None:
    with pytest.raises(SettingsInvalid, match=rf"port 8000 \(INGRESS_PORT\) of {host} cannot be used: "):
        check_port("INGRESS_PORT", 8000, host)
