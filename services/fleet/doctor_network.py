"""Checks of ``fleet doctor`` for our ports on this machine, and for the public address of the ingress."""

import socket
import ssl
import time
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from services.core.counts import format_count
from services.core.ports import LOOPBACK, find_listener, is_free
from services.core.settings import Settings
from services.fleet.doctor_check import DoctorCheck, describe_fault

LEAST_DAYS = 14
"""certbot renews a certificate 30 days before its end: fewer mean that the renewal fails."""

_SECONDS = 5.0
_ANY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - addresses that are asked over loopback
_PORTS = (
    ("ingress_port", "/livez", '"alive"'),
    ("console_port", "/livez", '"alive"'),
    ("flower_port", "/healthcheck", "OK"),
)
"""Setting, path, and what our process answers there."""

_PATH = "/webhooks/shopify/fleet-doctor"
"""The ingress answers 405 to a GET, whatever the shop is, and stores no event."""


def check_ports(settings: Settings, *, running: bool) -> Iterator[DoctorCheck]:
    """Each port has our process, or is free. If some of our processes run, none may be absent."""
    ports: list[tuple[str, int, bool, bool]] = []
    for name, path, answer in _PORTS:
        bound = settings.bind_address if name == "ingress_port" else LOOPBACK
        host, port = LOOPBACK if bound in _ANY else bound, getattr(settings, name)
        ports.append((name, port, is_free(port, host), _is_ours(f"http://{host}:{port}{path}", answer)))
    running = running or any(is_ours for *_, is_ours in ports)
    for name, port, free, is_ours in ports:
        if is_ours:
            seen = f"a Shopfleet {name.removesuffix('_port')} answers on {port}, of this fleet or of another"
            yield DoctorCheck(name, True, seen)
        elif free and running:
            remedy = "start it (docs/production.md), or look for its lines in the output of fleet up"
            seen = f"{port} has no listener, but other processes of the fleet run"
            yield DoctorCheck(name, False, seen, remedy)
        elif free:
            yield DoctorCheck(name, True, f"{port} is free")
        else:
            seen = f"{port} is taken by {find_listener(port)}, which does not answer as our process"
            remedy = f"stop that process, set {name.upper()} to a free port, or use fleet up --auto-ports"
            yield DoctorCheck(name, False, seen, remedy)


def _is_ours(url: str, answer: str) -> bool:
    import httpx

    try:
        found = httpx.get(url, timeout=_SECONDS, trust_env=False)
    except httpx.HTTPError:
        return False
    return found.status_code == httpx.codes.OK and answer in found.text


def check_public_url(settings: Settings) -> Iterator[DoctorCheck]:
    """The certificate of ``PUBLIC_URL`` is valid for its host, and the address reaches an ingress."""
    if settings.public_url:
        yield from check_address("public url", settings.public_url, _PATH, (405, "method_not_allowed"))
        return
    seen = "PUBLIC_URL is not set: no webhook subscription is created at Shopify"
    remedy = "set PUBLIC_URL to the https:// address of the ingress"
    yield DoctorCheck("public url", True, seen, remedy, is_note=True)


def check_address(check: str, url: str, path: str, wanted: tuple[int, str]) -> Iterator[DoctorCheck]:
    """The certificate of ``url`` is valid for its host, and its ``path`` has the answer of our process.

    ``wanted``: the status, and what the body contains.
    """
    parts = urlsplit(url)
    name = "certificate" if check == "public url" else f"{check}, certificate"
    if parts.scheme == "https":
        finding = _check_certificate(name, parts)
        yield finding
        if not finding.seen.startswith("valid"):
            return
    elif not _is_loopback(parts.hostname or ""):
        yield DoctorCheck(name, False, f"{url} has no TLS", "set an https:// address")
    yield _check_reaches(check, url, path, wanted)


_RENEW = "run: certbot renew, or renew it where it comes from, and reload the proxy"


def _check_certificate(name: str, parts: SplitResult) -> DoctorCheck:
    host, port = parts.hostname or "", parts.port or 443
    try:
        with (
            socket.create_connection((host, port), _SECONDS) as raw,
            ssl.create_default_context().wrap_socket(raw, server_hostname=host) as tls,
        ):
            certificate = tls.getpeercert() or {}
    except ssl.SSLCertVerificationError as fault:
        remedy = {
            10: _RENEW,
            62: f"use a certificate for the name {host}",
            64: f"use a certificate for the address {host}, or a host name in PUBLIC_URL",
        }.get(fault.verify_code, "let the proxy send the whole chain (fullchain.pem) of a public authority")
        return DoctorCheck(name, False, f"{host}:{port}: {fault.verify_message}", remedy)
    except (OSError, UnicodeError) as fault:
        seen = f"{host}:{port} cannot be reached: {describe_fault(fault)}"
        remedy = "check the DNS entry, the firewall and the proxy; a network may hide its own public address"
        return DoctorCheck(name, False, seen, remedy)
    days = int((ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) // 86_400)
    return DoctorCheck(
        name, days >= LEAST_DAYS, f"valid for {host}, {format_count(days, 'more day')}", _RENEW
    )


def _check_reaches(check: str, url: str, path: str, wanted: tuple[int, str]) -> DoctorCheck:
    import httpx

    process, passed = ("ingress", "/webhooks/") if check == "public url" else ("console", "every path")
    remedy = f"start the {process}, and let the proxy pass {passed} to it unchanged (docs/production.md)"
    try:
        answer = httpx.get(url + path, timeout=_SECONDS)
    except httpx.HTTPError as fault:
        return DoctorCheck(check, False, f"{url} does not answer: {describe_fault(fault)}", remedy)
    ours = answer.status_code == wanted[0] and wanted[1] in answer.text
    if ours and answer.headers.get("x-request-id"):
        return DoctorCheck(check, True, f"{url} reaches the {process}")
    server = answer.headers.get("server", "another server")
    return DoctorCheck(check, False, f"{url}{path} answers {answer.status_code} of {server}", remedy)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
