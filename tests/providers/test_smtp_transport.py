"""The SMTP transport alone: TLS, sign-in, servers without pipelining, long replies and invalid URLs."""

import datetime as dt
import socket
import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.providers.outgoing_mail import OutgoingMail
from services.providers.smtp import SmtpTransport
from services.providers.smtp_url import SmtpUrlInvalid, parse_smtp_url
from tests.fakes.smtp import CLOSE, ENDLESS, HANG, Scripted, Sink, smtp_server

NOW = dt.datetime(2026, 11, 22, 9, 0, tzinfo=dt.UTC)


def make_mail(number: int = 1, **changes: Any) -> OutgoingMail:
    fields: dict[str, Any] = {
        "sender": "Shopfleet <fleet@example.org>",
        "recipient": "owner@example.com",
        "subject": f"Hello {number}",
        "text": "Good morning.\n.\n..dots\n",
        "html": "<p>Good morning.</p>\n",
        "message_id": f"{number}@example.org",
        "date": NOW,
    }
    return OutgoingMail(**(fields | changes))


def transport(url: str, **options: Any) -> SmtpTransport:
    return SmtpTransport(parse_smtp_url(url), **({"timeout_seconds": 5.0} | options))


def fault_of(url: str, **options: Any) -> WorkError:
    with pytest.raises(WorkError) as caught:
        transport(url, **options).send(make_mail())
    return caught.value


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that is trusted only if it is configured."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    today = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_file, key_file


@pytest.fixture
def tls_server(certificate: tuple[Path, Path]) -> Iterator[tuple[Sink, str]]:
    """A server that requires STARTTLS and a sign-in; the host and port of its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"fleet", b"p@ss:word")
        return AuthResult(success=right, handled=False)

    sink = Sink()
    options = {"tls_context": context, "require_starttls": True, "auth_required": True}
    with smtp_server(sink, **options, authenticator=authenticate) as url:
        yield sink, url.removeprefix("smtp://")


def test_starttls_and_sign_in_use_the_password_in_the_url(
    tls_server: tuple[Sink, str], certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, address = tls_server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    sending = transport(f"smtp+starttls://fleet:p%40ss%3Aword@{address}")

    sending.send(make_mail(1))
    sending.send(make_mail(2))
    sending.close()

    assert [mail["Subject"] for mail in sink.mails] == ["Hello 1", "Hello 2"]


def test_a_wrong_password_is_reported_and_not_shown(
    tls_server: tuple[Sink, str], certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    fault = fault_of(f"smtp+starttls://fleet:hunter2@{tls_server[1]}")

    assert (type(fault), fault.code) == (Misconfigured, "smtp.credentials_refused")
    assert "hunter2" not in fault.detail
    assert "hunter2" not in repr(transport(f"smtp://fleet:hunter2@{tls_server[1]}"))


def test_an_untrusted_certificate_is_reported(tls_server: tuple[Sink, str]) -> None:
    fault = fault_of(f"smtp+starttls://fleet:secret@{tls_server[1]}")

    assert (type(fault), fault.code) == (Misconfigured, "smtp.certificate_wrong")


def test_missing_tls_is_reported() -> None:
    with smtp_server(Sink()) as url:
        starttls = fault_of(url.replace("smtp:", "smtp+starttls:"))
        smtps = fault_of(url.replace("smtp:", "smtps:"))

    assert (starttls.code, smtps.code) == ("smtp.not_offered", "smtp.no_tls")
    assert isinstance(starttls, Misconfigured)


def test_a_server_without_pipelining_gets_one_command_at_a_time() -> None:
    with Scripted(pipelining=False).serving() as server:
        transport(server.url).send(make_mail())

    assert ["MAIL"] in server.bursts
    assert ["RCPT"] in server.bursts
    assert len(server.mails) == 1


@pytest.mark.parametrize("pipelining", [True, False])
def test_dots_at_the_start_of_lines_arrive_unchanged(*, pipelining: bool) -> None:
    with Scripted(pipelining=pipelining).serving() as server:
        transport(server.url).send(make_mail())

    assert b"\r\nGood morning.\r\n.\r\n..dots\r\n" in server.mails[0]


def test_a_refused_recipient_is_reported_even_if_the_connection_then_closes() -> None:
    answers = {"RCPT": ["550 no such user"], "DATA": ["503 nobody to send to"], "RSET": [CLOSE]}
    with Scripted(answers).serving() as server:
        sending = transport(server.url)
        with pytest.raises(Refused, match="no such user"):
            sending.send(make_mail(1))
        sending.send(make_mail(2))

    assert (len(server.mails), server.connections) == (1, 2)


def test_no_reply_to_the_text_is_unknown_and_ends_the_connection() -> None:
    with Scripted({"TEXT": [HANG]}).serving() as server:
        sending = transport(server.url, timeout_seconds=0.3)
        with pytest.raises(OutcomeUnknown, match="TimeoutError"):
            sending.send(make_mail(1))
        sending.send(make_mail(2))

    assert server.connections == 2


def test_no_reply_to_the_envelope_is_retried_later() -> None:
    with Scripted({"MAIL": [HANG]}).serving() as server:
        fault = fault_of(server.url, timeout_seconds=0.3)

    assert (type(fault), fault.code) == (RetryLater, "smtp.unavailable")


@pytest.mark.parametrize(
    ("verb", "error", "code"),
    [
        ("GREETING", RetryLater, "smtp.unavailable"),
        ("EHLO", RetryLater, "smtp.unavailable"),
        ("MAIL", RetryLater, "smtp.unavailable"),
        ("TEXT", OutcomeUnknown, "smtp.no_answer"),
    ],
)
def test_a_reply_of_more_than_100_lines_ends_the_connection(
    verb: str, error: type[WorkError], code: str
) -> None:
    with Scripted({verb: [ENDLESS]}).serving() as server:
        fault = fault_of(server.url)

    assert (type(fault), fault.code) == (error, code)


def test_a_reply_of_100_lines_is_accepted() -> None:
    reply = "250-more\r\n" * 99 + "250 OK"
    with Scripted({"MAIL": [reply], "TEXT": [reply]}).serving() as server:
        transport(server.url).send(make_mail())

    assert len(server.mails) == 1


def test_an_unreachable_server_is_retried_later() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        fault = fault_of(f"smtp://127.0.0.1:{free.getsockname()[1]}")

    assert (type(fault), fault.code) == (RetryLater, "smtp.unavailable")


@pytest.mark.parametrize(
    "url",
    [
        "http://mail",
        "smtp://",
        "mail",
        "smtp://host:99999",
        "",
        "smtp://a:se[cret@host",
        "smtp://a:se\u2100cret@h",
    ],
)
def test_an_invalid_url_is_refused_with_the_correct_form(url: str) -> None:
    with pytest.raises(
        SmtpUrlInvalid, match="should begin with one of smtp, smtp\\+starttls, smtps"
    ) as caught:
        parse_smtp_url(url)
    assert "cret" not in str(caught.value)
