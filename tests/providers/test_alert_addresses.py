"""An alert goes to the address that was checked, and the certificate is checked for the host's name."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from services.core.errors import Misconfigured
from services.providers.alert_webhooks import find_public_target, post_alert
from services.providers.http import post
from tests.fakes.web import Answer, Web

URL = "https://user:pw@alerts.example:8443/hook?x=1"
Addresses = list[str]


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Addresses:
    """The addresses that the system's resolver returns for every name."""
    addresses: Addresses = []

    def resolve(host: str, port: int, **_: object) -> list[object]:
        return [(None, None, None, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return addresses


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        (["8.8.4.4"], "https://user:pw@8.8.4.4:8443/hook?x=1"),
        (["2001:4860:4860::8888"], "https://user:pw@[2001:4860:4860::8888]:8443/hook?x=1"),
        (["2001:4860:4860::8888", "8.8.4.4"], "https://user:pw@8.8.4.4:8443/hook?x=1"),
    ],
)
def test_the_request_names_the_checked_address(resolves: Addresses, answers: Addresses, wanted: str) -> None:
    resolves += answers
    target = find_public_target("slack", URL)

    assert target["url"] == wanted
    assert target["headers"] == {"Host": "alerts.example:8443"}
    assert target["extensions"] == {"sni_hostname": "alerts.example"}


@pytest.mark.parametrize(
    "private",
    ["127.0.0.1", "10.0.0.4", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::1", "fe80::1", "fd00::1",  # noqa: S104
     "::ffff:127.0.0.1", "::ffff:169.254.169.254", "224.0.0.1", "ff0e::1", "64:ff9b::7f00:1",
     "64:ff9b::a00:4", "64:ff9b::e000:1", "2002:7f00:1::", "2002:a00:4::1"],
)  # fmt: skip
def test_one_private_address_among_public_ones_is_refused(resolves: Addresses, private: str) -> None:
    resolves += ["8.8.4.4", private]

    with pytest.raises(Misconfigured, match="ALLOW_PRIVATE_URLS"):
        post_alert("slack", URL, {}, allow_private=False)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "localhost"])
def test_other_spellings_of_the_loopback_are_private(host: str) -> None:
    with Web() as web, pytest.raises(Misconfigured, match=r"127\.0\.0\.1|::1"):
        post_alert("slack", f"http://{host}:{web.port}/", {}, allow_private=False)


def test_the_login_of_an_address_is_sent_as_basic_auth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.providers.alert_webhooks._is_public", lambda _: True)
    with Web() as web:
        post_alert("alert_webhook", f"http://user:p%40w@127.0.0.1:{web.port}/", {}, allow_private=False)

        (request,) = web.requests
    assert request.headers["authorization"] == "Basic dXNlcjpwQHc="


def test_a_redirect_is_not_followed() -> None:
    with Web() as inside, Web(Answer(302, {"Location": f"{inside.url}/secret"})) as web:
        with pytest.raises(Exception, match="302"):
            post_alert("slack", f"{web.url}/", {}, allow_private=True)

        assert inside.requests == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate and its key for ``alerts.example``, in one file."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is not installed")
    file = tmp_path / "both.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=x", "-addext", "subjectAltName=DNS:alerts.example", "-keyout", "-", "-out", "-"]
    file.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return file


@pytest.fixture
def port(certificate: Path) -> Iterator[int]:
    """The port of an HTTPS server with ``certificate`` on the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("name", "is_right"), [("alerts.example", True), ("other.example", False)])
def test_the_certificate_of_a_checked_address_is_that_of_the_name(
    certificate: Path, port: int, name: str, is_right: bool
) -> None:
    with httpx.Client(verify=ssl.create_default_context(cafile=str(certificate))) as http:
        target = {"url": f"https://127.0.0.1:{port}/", "extensions": {"sni_hostname": name}}
        if is_right:
            assert post("slack", headers={"Host": name}, http=http, **target).status_code == 200
        else:
            with pytest.raises(Exception, match="could not connect"):
                post("slack", headers={"Host": name}, http=http, **target)
