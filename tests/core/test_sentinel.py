"""``BROKER_URL`` with Redis Sentinels: it is read, refused by name, and never shows a password."""

import json
import ssl
import traceback

import kombu
import pytest
from kombu.utils.json import dumps

from services.core import broker, broker_probe
from services.core.errors import SettingsInvalid
from services.core.log_redaction import redact_text
from services.core.sentinel import SentinelUrl, parse_sentinel_url
from services.core.sentinel_client import SentinelClient
from services.core.settings import read_settings
from services.fleet.doctor_broker import check_broker

MASTER, WATCHER = "mästerpw%2Fx", "watcherpw%26x"
HOSTS = "127.0.0.1:1,127.0.0.1:2"
URL = f"sentinel://app:{MASTER}@{HOSTS}/3?master=fleet&sentinel_password={WATCHER}"
SECRETS = ("sterpw", "watcherpw")


def read(url: str) -> str:
    """Return the faults of a fleet with ``url``."""
    needed = {"DATABASE_URL": "postgresql://app@db/x", "SECRET_KEY": "k" * 40}
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(needed | {"BROKER_URL": url})
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(secret in shown for secret in SECRETS), shown
    return str(caught.value)


def test_every_part_of_the_url_is_read() -> None:
    assert parse_sentinel_url(URL) == SentinelUrl(
        sentinels=(("127.0.0.1", 1), ("127.0.0.1", 2)),
        master="fleet",
        database=3,
        user="app",
        password="mästerpw/x",
        sentinel_password="watcherpw&x",
    )


def test_ports_the_database_and_logins_have_defaults() -> None:
    assert parse_sentinel_url("sentinel://one,[::1]:7?master=m") == SentinelUrl(
        sentinels=(("one", 26379), ("::1", 7)), master="m"
    )


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        (f"sentinel://:{MASTER}@{HOSTS}/0", "BROKER_URL has no master: add ?master=NAME"),
        (f"sentinel://:{MASTER}@{HOSTS}/0?master=", "BROKER_URL has no master"),
        (
            f"sentinel://:{MASTER}@one:port/0?master=m",
            "the Sentinel number 1 ('one'), which should be like host:26379",
        ),
        (f"sentinel://:{MASTER}@one:70000/0?master=m", "the Sentinel number 1 ('one')"),
        (f"sentinel://:{MASTER}@one,/0?master=m", "the Sentinel number 2 ('')"),
        (f"sentinel://:{MASTER}@/0?master=m", "the Sentinel number 1 ('')"),
        (f"sentinel://:{MASTER}@one/first?master=m", "the database 'first', which should be a number"),
        (f"sentinel://:{MASTER}@one/0?master=m&sentinel_pasword={WATCHER}", "an option 2"),
        (f"sentinel://:{MASTER}@one/0?master=m&master=n", "the option master twice"),
        (
            f"sentinel://:{MASTER}@one/0?master=m&sentinel_password=x&watcherpw",
            "write %26 for & in a password",
        ),
        ("sentinel://user:sterpw/0?master=m", "the Sentinel number 1 ('user')"),
        ("sentinel://:watcherpw?master=m", "the Sentinel number 1 ('')"),
        ("sentinel://one/0?master=m&ssl_cert_reqs=no", "ssl_cert_reqs='no', which should be one of required"),
        (f"sentinel://:{MASTER}@one/0;sentinel://:{MASTER}@two/0", "name all Sentinels in one"),
        ("sentinel://:sterpw/x@one/0?master=m", "has a special character in a password: write %40 for @"),
        ("sentinel://:sterpw#x@one/0?master=m", "has a special character in a password: write %40 for @"),
        ("sentinel://:sterpw[x@one/0?master=m", "has a special character in a password: write %40 for @"),
        ("sentinel://:sterpw@x@one/0?master=m", "has a special character in a password: write %40 for @"),
        ("sentinel://:sterpw?x@one/0?master=m", "has a special character in a password: write %40 for @"),
        (
            "sentinel://:x@one/0?master=m&sentinel_password=watcherpw@x",
            "has a special character in a password: write %40 for @",
        ),
    ],
)
def test_a_wrong_url_is_refused_without_its_passwords(url: str, fault: str) -> None:
    assert fault in read(url)


def test_all_faults_are_named_together() -> None:
    faults = read(f"sentinel://:{MASTER}@one:x,two:0/y")
    assert all(
        f"BROKER_URL has {what}" in faults
        for what in ("the Sentinel number 1 ('one')", "the Sentinel number 2 ('two')")
    )
    assert "BROKER_URL has the database 'y'" in faults
    assert "BROKER_URL has no master" in faults


def test_no_password_is_shown_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    settings = read_settings(
        {"DATABASE_URL": "postgresql://a@b/c", "SECRET_KEY": "k" * 40, "BROKER_URL": URL}
    )
    connection = broker.connect(URL)
    findings = list(check_broker(URL))
    with pytest.raises(broker.BrokerUnreachable) as caught:
        broker.Sender(URL).send("webhooks", "order_ingest", [1])
    shown = [
        repr(settings),
        repr(parse_sentinel_url(URL)),
        redact_text(f"cannot use {URL}, sorry"),
        repr(connection),
        connection.as_uri(include_password=True),
        # What a worker answers to `celery inspect stats` and shows in Flower.
        json.dumps(json.loads(dumps(connection.info()))),
        repr(findings),
        "".join(traceback.format_exception(caught.value)),
        caplog.text,
    ]
    assert not any(secret in text for text in shown for secret in SECRETS), shown
    assert not any(finding.ok for finding in findings)
    assert all(f"127.0.0.1:{port}" in findings[0].seen for port in (1, 2))
    assert all(finding.remedy for finding in findings)


def test_kombu_reads_the_url_that_it_is_given() -> None:
    connection = kombu.Connection(broker.kombu_url(URL))
    assert (connection.transport_cls, connection.virtual_host) == ("sentinel", "3")
    assert broker.kombu_url("redis://:pw@host:6379/0") == "redis://:pw@host:6379/0"


def test_options_of_tls_apply_to_the_sentinels_and_to_the_master() -> None:
    url = f"{URL}&ssl_ca_certs=%2Fetc%2Fca.pem&ssl_check_hostname=false"
    connection = broker.connect(url)
    assert connection.ssl["ssl_ca_certs"] == "/etc/ca.pem"
    assert connection.ssl["ssl_cert_reqs"] is ssl.CERT_REQUIRED
    assert connection.ssl["ssl_check_hostname"] is False
    options = SentinelClient(parse_sentinel_url(url), 1.0).sentinel_kwargs
    assert (options["ssl"], options["ssl_ca_certs"]) == (True, "/etc/ca.pem")
    assert (options["ssl_cert_reqs"], options["ssl_check_hostname"]) == ("required", False)
    assert "ssl" not in SentinelClient(parse_sentinel_url(URL), 1.0).sentinel_kwargs


@pytest.mark.parametrize(
    ("more", "checked"),
    [("", ssl.CERT_REQUIRED), ("?ssl_ca_certs=a", ssl.CERT_REQUIRED), ("?ssl_cert_reqs=none", ssl.CERT_NONE)],
)
def test_a_certificate_of_redis_is_checked_if_the_url_does_not_say_otherwise(more: str, checked: int) -> None:
    assert broker.connect(f"rediss://:pw@host:6379/0{more}").ssl["ssl_cert_reqs"] is checked


def test_unreachable_sentinels_are_an_unreachable_broker() -> None:
    assert broker_probe.ping(1.0, URL) is None
