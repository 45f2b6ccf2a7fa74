"""Findings of ``fleet doctor`` about ports, the public address, and checks that raise or do not end."""

import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.core.settings import Settings, read_settings
from services.fleet.doctor_check import DoctorCheck, run_checks
from services.fleet.doctor_network import check_ports, check_public_url
from services.fleet.ports import find_free_port
from tests.fleet.certificates import make_certificate

CERTIFICATE = "certificate"
Serve = Callable[..., int]
"""Starts a server; returns its port."""


class OurAnswers(BaseHTTPRequestHandler):
    """Answers as the ingress, the console and Flower do."""

    def do_GET(self) -> None:
        refused = (405, '{"error":"method_not_allowed"}')
        alive = {"/livez": (200, '{"status":"alive"}'), "/healthcheck": (200, "OK")}
        is_webhook = self.path.startswith("/webhooks/shopify/")
        status, body = refused if is_webhook else alive.get(self.path, (404, ""))
        self.send_response(status)
        self.send_header("X-Request-Id", "1")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_args: object) -> None:
        pass


class OtherAnswers(OurAnswers):
    """Another program."""

    def do_GET(self) -> None:
        self.send_error(404)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers; stop them afterwards."""
    started: list[ThreadingHTTPServer] = []

    def start(answers: type[BaseHTTPRequestHandler], tls: Path | None = None) -> int:
        server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return int(server.server_address[1])

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def settings(**more: object) -> Settings:
    ports = {name: find_free_port() for name in ("INGRESS_PORT", "CONSOLE_PORT", "FLOWER_PORT")}
    given = {"DATABASE_URL": "postgresql://", "BROKER_URL": "redis://", "SECRET_KEY": "k" * 40}
    return read_settings({name: str(value) for name, value in {**given, **ports, **more}.items()})


def find_ports(configured: Settings, *, running: bool = False) -> dict[str, DoctorCheck]:
    return {finding.check: finding for finding in check_ports(configured, running=running)}


def test_free_ports_are_right_before_the_fleet_starts() -> None:
    assert [finding.ok for finding in check_ports(settings(), running=False)] == [True, True, True]


def test_our_own_processes_on_their_ports_are_right(serve: Serve) -> None:
    ports = {name: serve(OurAnswers) for name in ("INGRESS_PORT", "CONSOLE_PORT", "FLOWER_PORT")}
    found = find_ports(settings(**ports))
    assert all(finding.ok for finding in found.values())
    assert [one.seen.endswith(", of this fleet or of another") for one in found.values()] == [True] * 3


def test_a_stopped_process_beside_running_ones_is_a_fault(serve: Serve) -> None:
    found = find_ports(settings(INGRESS_PORT=serve(OurAnswers), CONSOLE_PORT=serve(OurAnswers)))
    assert [name for name, finding in found.items() if not finding.ok] == ["flower_port"]
    assert "has no listener" in found["flower_port"].seen
    assert "stop" not in found["flower_port"].remedy


def test_another_program_on_a_port_is_a_fault(serve: Serve) -> None:
    found = find_ports(settings(INGRESS_PORT=serve(OtherAnswers)), running=False)["ingress_port"]
    assert not found.ok
    assert "does not answer as our process" in found.seen


def find_public(url: str) -> dict[str, DoctorCheck]:
    return {finding.check: finding for finding in check_public_url(settings(PUBLIC_URL=url))}


def test_without_a_public_address_there_is_nothing_to_check() -> None:
    found = find_public("")["public url"]
    assert (found.ok, found.is_note) == (True, True)
    assert "set PUBLIC_URL" in found.remedy


@pytest.mark.parametrize(
    ("names", "days", "fault", "remedy"),
    [
        ("DNS:localhost", 90, "", ""),
        ("DNS:localhost", 5, "4 more days", "certbot renew"),
        ("DNS:localhost", -1, "certificate has expired", "certbot renew"),
        ("DNS:other.example", 90, "Hostname mismatch", "for the name localhost"),
    ],
)
def test_the_certificate_is_checked(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: str,
    days: int,
    fault: str,
    remedy: str,
) -> None:
    certificate = make_certificate(tmp_path, names, days)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    found = find_public(f"https://localhost:{serve(OurAnswers, certificate)}")

    assert found[CERTIFICATE].ok is not bool(fault)
    assert fault in found[CERTIFICATE].seen
    assert remedy in found[CERTIFICATE].remedy or not remedy
    assert ("public url" in found) is ("more days" in found[CERTIFICATE].seen)


def test_an_unknown_authority_is_a_fault(serve: Serve, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "DNS:localhost", 90)
    fault = find_public(f"https://localhost:{serve(OurAnswers, certificate)}")[CERTIFICATE]
    assert not fault.ok
    assert "self-signed" in fault.seen
    assert "whole chain" in fault.remedy


@pytest.mark.parametrize(("answers", "ok"), [(OurAnswers, True), (OtherAnswers, False)])
def test_the_address_must_reach_an_ingress(
    serve: Serve, answers: type[BaseHTTPRequestHandler], ok: bool
) -> None:
    found = find_public(f"http://127.0.0.1:{serve(answers)}")
    assert found["public url"].ok is ok


def test_a_public_address_without_tls_is_a_fault() -> None:
    assert "has no TLS" in find_public("http://hooks.invalid")[CERTIFICATE].seen


def test_a_check_that_raises_or_does_not_end_hides_no_other() -> None:
    waited: list[list[str]] = []
    never = threading.Event()

    def raises() -> list[DoctorCheck]:
        raise ValueError("no such thing")

    def hangs() -> list[DoctorCheck]:
        never.wait()
        return []

    checks = {"hangs": hangs, "raises": raises, "works": lambda: [DoctorCheck("works", True, "fine")]}
    found = run_checks(checks, 2.5, on_wait=lambda names: waited.append(list(names)))
    never.set()

    assert [(one.check, one.ok) for one in found] == [("hangs", False), ("raises", False), ("works", True)]
    assert "did not end within 2.5 s" in found[0].seen
    assert "ValueError: no such thing" in found[1].seen
    assert waited[0] == ["hangs"]
