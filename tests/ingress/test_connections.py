"""Idle connections are closed by age; they are found among the process's descriptors."""

import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from services.core.settings import Settings
from services.ingress import rsgi
from services.ingress.connections import ClientConnection, list_connections, list_idle, shut_idle
from services.ingress.rsgi import Gateway

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how long one is idle")

Pair = tuple[socket.socket, socket.socket]


def name(client: socket.socket) -> str:
    host, port = client.getsockname()
    return f"{host}:{port}"


def is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


class FakeListener:
    """A listener with its connections, as in granian."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.pairs: list[Pair] = []

    def open(self, count: int) -> list[Pair]:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", self.port))
            self.pairs.append((client, self._listener.accept()[0]))
        return self.pairs

    def close(self) -> None:
        for sock in (self._listener, *(sock for pair in self.pairs for sock in pair)):
            sock.close()


@pytest.fixture
def listener() -> Iterator[FakeListener]:
    listener = FakeListener()
    yield listener
    listener.close()


def test_connections_to_the_port_are_listed_by_the_peers_name(listener: FakeListener) -> None:
    pairs = listener.open(3)

    found = {connection.peer: connection for connection in list_connections(listener.port)}

    assert set(found) == {name(client) for client, _ in pairs}
    assert all(connection.idle_seconds >= 0 for connection in found.values())
    assert {connection.descriptor for connection in found.values()} == {sock.fileno() for _, sock in pairs}


def test_idle_connection_is_shut_and_one_with_a_request_is_not(listener: FakeListener) -> None:
    (idle, _), (asking, _), (closed, held) = listener.open(3)
    asking.sendall(b"POST")
    found = {connection.peer: connection for connection in list_connections(listener.port)}
    name_of_gone = name(closed)
    held.close()

    assert shut_idle(found[name(idle)])
    assert is_closed(idle)
    assert not shut_idle(found[name(asking)])
    assert not is_closed(asking)
    assert not shut_idle(found[name_of_gone])
    another = found[name(asking)]._replace(peer="192.0.2.1:1")
    assert not shut_idle(another)


def test_crowd_is_the_longest_idle_first_without_the_busy() -> None:
    held = [ClientConnection(n, f"peer-{n}", idle) for n, idle in enumerate((1.0, 9.0, 0.1, 5.0))]

    assert [one.peer for one in list_idle(held, {"peer-1"}, 0.5)] == ["peer-3", "peer-0"]


def test_idle_connections_are_closed_only_as_far_as_connections_run_short(
    listener: FakeListener, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rsgi, "LEAST_IDLE_SECONDS", 0.0)
    counts: list[int] = []
    served = Gateway(
        SimpleNamespace(),  # type: ignore[arg-type]
        Flask("empty"),
        replace(settings, ingress_port=listener.port, ingress_requests=8),
    )
    monkeypatch.setattr(served._bodies, "cancel_slowest", lambda count, _now: counts.append(count))
    pairs = listener.open(6)
    served._free_connections(0.0)
    assert not any(is_closed(client) for client, _ in pairs)

    pairs = listener.open(2)
    busy: Any = SimpleNamespace(client=name(pairs[0][0]))
    served._running = {FakeRequest(busy)}  # type: ignore[arg-type]
    served._free_connections(0.0)

    assert sum(is_closed(client) for client, _ in pairs) == 2
    assert not is_closed(pairs[0][0])
    assert counts[-1] == 0


class FakeRequest:
    """A request in progress."""

    def __init__(self, scope: Any) -> None:
        self.client = scope.client
