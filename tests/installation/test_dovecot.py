"""Delivery reports in a mailbox of Dovecot, read through TLS with a verified certificate."""

import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pytest
from sqlalchemy import Engine

from services.core.errors import Misconfigured
from services.jobs.read_bounces import read_bounces
from tests.fakes.settings import settings_of
from tests.installation.package_servers import PackageServer, make_certificate
from tests.jobs.test_read_bounces import RUN, SUPPRESSED, report, send
from tests.shopify.sample_payloads import rows

FOLDER = "Zurückgewiesen & mehr"
ON_DISK = ".Zur&APw-ckgewiesen &- mehr"


class Dovecot(PackageServer):
    """Dovecot 2.3 with one mailbox; its certificate is valid for ``names`` and in ``certificate.pem``."""

    program = "dovecot"
    user, password = "bounces@harbour.example", "pässw ord/@%"

    def __init__(self, home: Path, names: str = "IP:127.0.0.1") -> None:
        super().__init__(home)
        if not Path("/usr/lib/dovecot/imap").exists():
            pytest.skip("dovecot-imapd is not installed")
        certificate = make_certificate(home, names)
        self.certificate = certificate["tls-cert-file"]
        me = pwd.getpwuid(os.getuid()).pw_name
        is_root = os.getuid() == 0
        owner = pwd.getpwnam("dovecot" if is_root else me)
        self.maildir = home / "mail"
        for folder in ("cur", "new", "tmp"):
            (self.maildir / ON_DISK / folder).mkdir(parents=True)
        for path in (self.maildir, *self.maildir.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        internal, login = ("dovecot", "dovenull") if is_root else (me, me)
        (home / "dovecot.conf").write_text(
            f"base_dir = {home}/run\nstate_dir = {home}/state\nlog_path = {home}/log\nlisten = 127.0.0.1\n"
            f"protocols = imap\nssl = required\nssl_cert = <{self.certificate}\n"
            f"ssl_key = <{certificate['tls-key-file']}\nmail_location = maildir:{self.maildir}\n"
            f"first_valid_uid = 1\ndefault_internal_user = {internal}\ndefault_login_user = {login}\n"
            f"passdb {{\n driver = passwd-file\n args = scheme=PLAIN {home}/users\n}}\n"
            f"userdb {{\n driver = static\n args = uid={owner.pw_uid} gid={owner.pw_gid} home={home}\n}}\n"
            f"service imap-login {{\n chroot =\n inet_listener imap {{\n  port = 0\n }}\n"
            f" inet_listener imaps {{\n  port = {self.port}\n  ssl = yes\n }}\n}}\n"
            "service anvil {\n chroot =\n}\n"
        )
        (home / "users").write_text(f"{self.user}:{{PLAIN}}{self.password}\n")
        home.chmod(0o755)

    def command(self) -> list[str]:
        return [self.path, "-F", "-c", str(self.home / "dovecot.conf")]

    def url(self, *, host: str = "127.0.0.1", password: str = "", folder: str = FOLDER) -> str:
        name, word = quote(self.user, safe=""), quote(password or self.password, safe="")
        return f"imaps://{name}:{word}@{host}:{self.port}/{quote(folder)}"

    def deliver(self, message: bytes, name: str) -> None:
        """Put ``message`` into the folder, as a local delivery agent does."""
        path = self.maildir / ON_DISK / "tmp" / name
        path.write_bytes(message)
        shutil.chown(path, self.maildir.owner(), self.maildir.group())
        path.rename(path.parents[1] / "new" / name)

    def list_seen(self) -> list[str]:
        """Return the names of the messages that are marked as seen."""
        found = (self.maildir / ON_DISK / "cur").glob("*:2,*S*")
        return sorted(path.name.partition(":")[0] for path in found)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that Dovecot's account reads, with a short path: sockets have at most 107 bytes."""
    with TemporaryDirectory(prefix="dovecot") as made:
        yield Path(made)


@pytest.fixture
def dovecot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dovecot]:
    with Dovecot(folder) as server:
        # OpenSSL reads the certificates that are trusted from here.
        monkeypatch.setenv("SSL_CERT_FILE", server.certificate)
        yield server


def find_fault(url: str) -> Misconfigured:
    with settings_of(BOUNCE_MAILBOX_URL=url), pytest.raises(Misconfigured) as refused:
        read_bounces(RUN)
    return refused.value


def test_reports_in_a_folder_of_a_real_server_are_read_once(dovecot: Dovecot, engine: Engine) -> None:
    (mail,) = send(engine)
    dovecot.deliver(report(mail["message_id"]), "report-1")
    dovecot.deliver(b"Subject: Hello\r\n\r\nNo report.\r\n", "other-2")

    with settings_of(BOUNCE_MAILBOX_URL=dovecot.url()):
        first, second = read_bounces(RUN), read_bounces(RUN)

    assert (first.stats, second.stats["messages"]) == ({"messages": 2, "reports": 1, "new": 1}, 0)
    assert dovecot.list_seen() == ["other-2", "report-1"]
    assert rows(engine, SUPPRESSED) == [(None, "owner@example.com", "bounced")]


def test_a_wrong_password_or_folder_is_named(dovecot: Dovecot, engine: Engine) -> None:
    refused = find_fault(dovecot.url(password="another"))
    assert refused.code == "imap.credentials_refused"
    assert "BOUNCE_MAILBOX_URL" in refused.detail
    assert "another" not in refused.detail

    unknown = find_fault(dovecot.url(folder="None"))
    assert (unknown.code, "'None'" in unknown.detail) == ("imap.folder_unknown", True)


def test_a_certificate_that_nobody_trusts_is_named(
    dovecot: Dovecot, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    fault = find_fault(dovecot.url())

    assert fault.code == "imap.certificate_wrong"
    assert "127.0.0.1: self-signed certificate" in fault.detail


def test_a_certificate_for_another_host_is_named(
    folder: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Dovecot(folder, "DNS:mail.example") as server:
        monkeypatch.setenv("SSL_CERT_FILE", server.certificate)
        fault = find_fault(server.url())

    assert fault.code == "imap.certificate_wrong"
    assert "IP address mismatch" in fault.detail
