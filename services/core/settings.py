"""What the environment says, read once and checked as a whole.

Faults are collected and reported together, because nobody wants to mend a deployment one
restart at a time. Secrets are kept out of ``repr``. Per-shop values never live here.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv import dotenv_values

from services.core.errors import SettingsInvalid

BROKER_SCHEMES = ("redis", "rediss", "sentinel", "amqp", "amqps")
MAIL_TRANSPORTS = ("smtp", "graph", "sendgrid", "resend", "file")
SHORTEST_SECRET = 32
"""Characters of a secret that a stranger may try to guess over HTTP."""
SMTP_SCHEMES = ("smtp", "smtp+starttls", "smtps")
MAIL_NEEDS = MappingProxyType(
    {
        "graph": ("GRAPH_TENANT_ID", "GRAPH_CLIENT_ID", "GRAPH_CLIENT_SECRET", "GRAPH_SENDER"),
        "sendgrid": ("SENDGRID_API_KEY",),
        "resend": ("RESEND_API_KEY",),
    }
)
"""What a transport cannot be without. SMTP and files have defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of the process; the table in ``docs/settings.md`` has a line for each."""

    database_url: str = field(repr=False)
    migrate_database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    audit_archive_database_url: str = field(default="", repr=False)
    secret_key: str = field(repr=False)
    secret_key_previous: str = field(default="", repr=False)
    cron_secret: str = field(default="", repr=False)
    cron_secret_previous: str = field(default="", repr=False)
    fleet_home: Path = Path(".fleet")
    fleet_timezone: str = "America/Vancouver"
    sentry_dsn: str = field(default="", repr=False)
    environment: str = "development"
    posthog_key: str = field(default="", repr=False)
    posthog_host: str = "https://us.i.posthog.com"
    operator_email: str = ""
    mail_transport: str = "smtp"
    smtp_url: str = field(default="", repr=False)
    mail_from: str = "Shopfleet <shopfleet@localhost>"
    mail_folder: Path = Path(".fleet/mail")
    mail_rate_per_second: float = 0.0
    mail_connections: int = 32
    graph_tenant_id: str = ""
    graph_client_id: str = ""
    graph_client_secret: str = field(default="", repr=False)
    graph_sender: str = ""
    graph_api_base: str = "https://graph.microsoft.com"
    graph_login_base: str = "https://login.microsoftonline.com"
    sendgrid_api_key: str = field(default="", repr=False)
    sendgrid_api_base: str = "https://api.sendgrid.com"
    resend_api_key: str = field(default="", repr=False)
    resend_api_base: str = "https://api.resend.com"
    archive_url: str = ""
    archive_retain_days: int = 400
    shopify_api_base: str = ""
    stripe_api_base: str = "https://api.stripe.com"
    quo_api_base: str = "https://api.quo.com"
    log_level: str = "info"
    log_format: str = "json"
    bind_address: str = "127.0.0.1"
    public_url: str = ""
    ingress_port: int = 8000
    ingress_workers: int = 2
    ingress_requests: int = 512
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    console_port: int = 8001
    flower_port: int = 5555
    flower_basic_auth: str = field(default="", repr=False)

    @property
    def zone(self) -> ZoneInfo:
        """The zone of fleet-wide schedules."""
        return ZoneInfo(self.fleet_timezone)

    @property
    def cron_secrets(self) -> tuple[str, ...]:
        """The secrets that open the routes for machines: none where ``CRON_SECRET`` is empty."""
        return (self.cron_secret, self.cron_secret_previous) if self.cron_secret else ()

    @property
    def short_secrets(self) -> dict[str, int]:
        """The secrets of machines that are short enough to guess, each with its length."""
        secrets = {"CRON_SECRET": self.cron_secret, "CRON_SECRET_PREVIOUS": self.cron_secret_previous}
        return {name: len(value) for name, value in secrets.items() if 0 < len(value) < SHORTEST_SECRET}


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Build settings from ``environ``; raise ``SettingsInvalid`` naming every fault at once."""
    faults: list[str] = []

    def text(name: str, default: str = "", *, required: str = "") -> str:
        value = environ.get(name, "").strip() or default
        if required and not value:
            faults.append(f"{name} is missing: {required}")
        return value

    def number(name: str, default: int, low: int, high: int) -> int:
        raw = text(name, str(default))
        if not raw.isdecimal() or not low <= int(raw) <= high:
            faults.append(f"{name}={raw!r} should be a whole number from {low} to {high}")
            return default
        return int(raw)

    def rate(name: str) -> float:
        raw = text(name, "0")
        try:
            value = float(raw)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 100_000:
            faults.append(f"{name}={raw!r} should be mails a second, such as 5 or 0.5; 0: no limit")
            return 0.0
        return value

    def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = text(name, default)
        if value not in allowed:
            faults.append(f"{name}={value!r} should be one of {', '.join(allowed)}")
        return value

    database_url = text("DATABASE_URL", required="postgresql://user:password@host/database")
    if database_url and not urlsplit(database_url).scheme.startswith("postgres"):
        faults.append("DATABASE_URL should begin with postgresql://")
    migrate_database_url = text("MIGRATE_DATABASE_URL", database_url)
    broker_url = text("BROKER_URL", required="redis://:password@host:6379/0")
    if broker_url and urlsplit(broker_url).scheme not in BROKER_SCHEMES:
        faults.append(f"BROKER_URL should begin with one of {', '.join(s + '://' for s in BROKER_SCHEMES)}")
    timezone = text("FLEET_TIMEZONE", "America/Vancouver")
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        faults.append(f"FLEET_TIMEZONE={timezone!r} should be an IANA name such as America/Vancouver")
    secret_key = text("SECRET_KEY", required="at least 32 random characters")
    if secret_key and len(secret_key) < SHORTEST_SECRET:
        faults.append(f"SECRET_KEY has {len(secret_key)} characters: it needs at least {SHORTEST_SECRET}")
    transport = choice("MAIL_TRANSPORT", "smtp", MAIL_TRANSPORTS)
    for name in MAIL_NEEDS.get(transport, ()):
        text(name, required=f"MAIL_TRANSPORT={transport} needs it")
    smtp_url = text("SMTP_URL", "smtp://127.0.0.1:1025")
    if urlsplit(smtp_url).scheme not in SMTP_SCHEMES or not urlsplit(smtp_url).hostname:
        faults.append(f"SMTP_URL should begin with one of {', '.join(SMTP_SCHEMES)}, then ://host")
    mail_from = text("MAIL_FROM", "Shopfleet <shopfleet@localhost>")
    if "@" not in mail_from:
        faults.append(f"MAIL_FROM={mail_from!r} should be an address, or like Shopfleet <mail@example.com>")
    fleet_home = Path(text("FLEET_HOME", ".fleet")).resolve()

    settings = Settings(
        database_url=database_url,
        migrate_database_url=migrate_database_url,
        broker_url=broker_url,
        audit_archive_database_url=_checked_archive_role(
            text("AUDIT_ARCHIVE_DATABASE_URL"), database_url, migrate_database_url, faults
        ),
        secret_key=secret_key,
        secret_key_previous=text("SECRET_KEY_PREVIOUS"),
        cron_secret=text("CRON_SECRET"),
        cron_secret_previous=text("CRON_SECRET_PREVIOUS"),
        fleet_home=fleet_home,
        fleet_timezone=timezone,
        sentry_dsn=text("SENTRY_DSN"),
        environment=text("ENVIRONMENT", "development"),
        posthog_key=text("POSTHOG_KEY"),
        posthog_host=text("POSTHOG_HOST", "https://us.i.posthog.com").rstrip("/"),
        operator_email=text("OPERATOR_EMAIL"),
        mail_transport=transport,
        smtp_url=smtp_url,
        mail_from=mail_from,
        mail_folder=Path(text("MAIL_FOLDER", str(fleet_home / "mail"))).resolve(),
        mail_rate_per_second=rate("MAIL_RATE_PER_SECOND"),
        mail_connections=number("MAIL_CONNECTIONS", 32, 1, 256),
        graph_tenant_id=text("GRAPH_TENANT_ID"),
        graph_client_id=text("GRAPH_CLIENT_ID"),
        graph_client_secret=text("GRAPH_CLIENT_SECRET"),
        graph_sender=text("GRAPH_SENDER"),
        graph_api_base=text("GRAPH_API_BASE", "https://graph.microsoft.com"),
        graph_login_base=text("GRAPH_LOGIN_BASE", "https://login.microsoftonline.com"),
        sendgrid_api_key=text("SENDGRID_API_KEY"),
        sendgrid_api_base=text("SENDGRID_API_BASE", "https://api.sendgrid.com"),
        resend_api_key=text("RESEND_API_KEY"),
        resend_api_base=text("RESEND_API_BASE", "https://api.resend.com"),
        archive_url=_checked_archive(text("ARCHIVE_URL", (fleet_home / "archive").as_uri()), faults),
        archive_retain_days=number("ARCHIVE_RETAIN_DAYS", 400, 1, 36_500),
        shopify_api_base=text("SHOPIFY_API_BASE"),
        stripe_api_base=text("STRIPE_API_BASE", "https://api.stripe.com"),
        quo_api_base=text("QUO_API_BASE", "https://api.quo.com"),
        log_level=choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
        log_format=choice("LOG_FORMAT", "console" if sys.stdout.isatty() else "json", ("json", "console")),
        bind_address=text("BIND_ADDRESS", "127.0.0.1"),
        public_url=_checked_public(text("PUBLIC_URL"), faults),
        ingress_port=number("INGRESS_PORT", 8000, 1, 65535),
        ingress_workers=number("INGRESS_WORKERS", 2, 1, 64),
        ingress_requests=number("INGRESS_REQUESTS", 512, 1, 4096),
        trusted_proxies=_checked_proxies(text("TRUSTED_PROXIES"), faults),
        console_port=number("CONSOLE_PORT", 8001, 1, 65535),
        flower_port=number("FLOWER_PORT", 5555, 1, 65535),
        flower_basic_auth=text("FLOWER_BASIC_AUTH"),
    )
    if faults:
        hint = "" if database_url else "\n  (or start an embedded fleet with `fleet up`, and this joins it)"
        raise SettingsInvalid("settings are wrong:\n  - " + "\n  - ".join(faults) + hint)
    return settings


def _checked_public(url: str, faults: list[str]) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment):
        faults.append(f"PUBLIC_URL={url!r} should be like https://hooks.example.com")
    return url.rstrip("/")


def _checked_archive_role(url: str, database_url: str, migrate_url: str, faults: list[str]) -> str:
    """Return ``url``, whose role is neither the application's nor the owner's."""
    if not url:
        return url
    parts = urlsplit(url)
    if not parts.scheme.startswith("postgres") or not parts.username:
        faults.append(
            "AUDIT_ARCHIVE_DATABASE_URL should be like postgresql://archive_role:password@host/database"
        )
        return url
    for name, other in (("DATABASE_URL", database_url), ("MIGRATE_DATABASE_URL", migrate_url)):
        if parts.username == urlsplit(other).username:
            faults.append(
                f"AUDIT_ARCHIVE_DATABASE_URL has the role {parts.username!r} of {name}: it should be a role "
                "of its own, which only deletes archived audit events (docs/audit.md has the SQL)"
            )
            break
    return url


def _checked_proxies(value: str, faults: list[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    networks = []
    for part in filter(None, map(str.strip, value.split(","))):
        try:
            networks.append(ip_network(part))
        except ValueError as fault:
            faults.append(
                f"TRUSTED_PROXIES={part!r} should be an address such as 10.0.0.4 or a network such as "
                f"10.0.0.0/8 ({fault})"
            )
    return tuple(networks)


def _checked_archive(url: str, faults: list[str]) -> str:
    parts = urlsplit(url)
    is_folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
    if not is_folder and not (parts.scheme == "s3" and parts.netloc):
        faults.append(f"ARCHIVE_URL={url!r} should be file:///folder or s3://bucket/prefix")
    elif parts.query or parts.fragment or url.endswith(("?", "#")):
        faults.append(f"ARCHIVE_URL={url!r} holds ? or #, which end its path: write %3F or %23 for them")
    return url


@cache
def get_settings() -> Settings:
    """Return the process's settings: the environment over ``.env`` over a running embedded fleet's own.

    The last lets a plain ``celery -A tasks ...`` in another terminal join the fleet that
    ``fleet up`` started, through the ``env`` file it leaves under ``FLEET_HOME``.
    """
    merged = {k: v for k, v in dotenv_values(".env").items() if v is not None} | dict(os.environ)
    home = Path(merged.get("FLEET_HOME") or ".fleet")
    embedded = {k: v for k, v in dotenv_values(home / "env").items() if v is not None}
    return read_settings(embedded | merged)
