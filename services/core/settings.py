"""Settings of the process, from the environment. All faults are reported together, without a secret's value.

Values of one shop are never settings: they are in the database. ``read_settings`` reads one table, the fields
of ``Settings``: each has its default, its parser, and whether it is secret.
"""

import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from email.utils import parseaddr
from functools import cache, partial
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from dotenv import dotenv_values

from services.core.errors import SettingsInvalid
from services.core.setting_urls import (
    BROKER_SCHEMES,
    SMTP_SCHEMES,
    find_role,
    is_archive_role,
    is_broker,
    is_mail_address,
    is_mail_address_or_empty,
    is_postgres,
    is_smtp,
    parse_archive_url,
    parse_issuer,
    parse_mailbox_address,
    parse_management_api,
    parse_public_url,
    parse_web_address,
)
from services.core.setting_values import (
    Parse,
    check,
    choice,
    parse_flag,
    parse_ip_address,
    parse_networks,
    parse_path,
    parse_rate,
    parse_whole,
    parse_zone,
)

MAIL_TRANSPORTS = ("smtp", "graph", "sendgrid", "resend", "file")
_FLEET_HOME = Path(".fleet")
EXPORTED = "FLEET_ENV_NAMES"
"""What ``fleet env`` printed, as ``NAME:CHECKSUM`` of each value: it is right only while that fleet runs."""
LOG_LEVELS = ("debug", "info", "warning", "error")
SHORTEST_SECRET = 32
"""Characters that a secret for HTTP requests needs against guessing."""
MAIL_NEEDS: Mapping[str, tuple[str, ...]] = {
    "graph": ("GRAPH_TENANT_ID", "GRAPH_CLIENT_ID", "GRAPH_CLIENT_SECRET", "GRAPH_SENDER"),
    "sendgrid": ("SENDGRID_API_KEY",),
    "resend": ("RESEND_API_KEY",),
}
"""Settings that a transport requires. SMTP and files have defaults."""

Values = Mapping[str, Any]


def _required(example: str, parse: Parse = str) -> Any:
    return field(repr=False, metadata={"required": example, "parse": parse})


def _secret(parse: Parse = str, unset: str | Callable[[Values], str] = "") -> Any:
    return field(default="", repr=False, metadata={"parse": parse, "unset": unset})


def _setting(default: Any, parse: Parse = str, unset: Callable[[Values], str] | None = None) -> Any:
    """Return a setting; without a value in the environment, ``unset`` computes it from earlier settings."""
    return field(default=default, metadata={"parse": parse, "unset": unset or str(default)})


_port = partial(parse_whole, 1, 65535)
_NEVER = ", or 0: never"
_POSTGRES = " {scheme} should begin with postgresql://"
_postgres = partial(check, is_postgres, _POSTGRES)
_direct_url = partial(check, lambda raw: not raw or is_postgres(raw), _POSTGRES)
_broker = partial(
    check,
    is_broker,
    f" {{scheme}} should begin with one of {', '.join(scheme + '://' for scheme in BROKER_SCHEMES)}",
)
_archive_role = partial(
    check, is_archive_role, " should be like postgresql://archive_role:password@host/database"
)
_secret_key = partial(
    check,
    lambda raw: len(raw) >= SHORTEST_SECRET,
    f" is too short ({{length}}): it needs at least {SHORTEST_SECRET} characters",
)
_smtp = partial(
    check, is_smtp, f" {{scheme}} should begin with one of {', '.join(SMTP_SCHEMES)}, then ://host"
)
_sender = partial(
    check,
    lambda raw: is_mail_address(parseaddr(raw)[1]),
    "={raw} should be an address, or like Shopfleet <mail@example.com>",
)
_claim = partial(
    check,
    lambda raw: not raw or all(raw.partition("=")),
    "={raw} should be a claim of the ID token and its value, such as amr=mfa",
)
_prices = partial(
    check,
    lambda raw: not raw or re.fullmatch(r"\d+(\.\d+)?(/\d+(\.\d+)?){2} [A-Z]{3}", raw) is not None,
    "={raw} should be what a million tokens of input, output and embeddings cost: '0.15/0.60/0.02 USD'",
)
_address = partial(
    check, is_mail_address_or_empty, "={raw} should be one mail address such as ops@example.com"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of the process; the table in ``docs/settings.md`` has a line for each."""

    database_url: str = _required("postgresql://user:password@host/database", _postgres)
    database_direct_url: str = _secret(_direct_url, unset=lambda values: str(values.get("database_url", "")))
    migrate_database_url: str = _secret(
        _direct_url, unset=lambda values: str(values.get("database_direct_url", ""))
    )
    broker_url: str = _required("redis://:password@host:6379/0", _broker)
    audit_archive_database_url: str = _secret(_archive_role)
    secret_key: str = _required("at least 32 random characters", _secret_key)
    secret_key_previous: str = _secret()
    cron_secret: str = _secret()
    cron_secret_previous: str = _secret()
    fleet_home: Path = _setting(_FLEET_HOME, parse_path)  # noqa: RUF009 - a field, not a default
    fleet_timezone: str = _setting("America/Vancouver", parse_zone)
    sentry_dsn: str = _secret()
    environment: str = _setting("development")
    release: str = _setting("")
    posthog_key: str = _secret()
    posthog_host: str = _setting("https://us.i.posthog.com", parse_public_url)
    slack_webhook_url: str = _secret(parse_web_address)
    alert_webhook_url: str = _secret(parse_web_address)
    allow_private_urls: bool = _setting(False, parse_flag, lambda _: "0")
    operator_email: str = _setting("", _address)
    mail_transport: str = _setting("smtp", choice(*MAIL_TRANSPORTS))
    smtp_url: str = _secret(_smtp, "smtp://127.0.0.1:1025")
    mail_from: str = _setting("Shopfleet <shopfleet@localhost>", _sender)
    mail_folder: Path = _setting(  # noqa: RUF009 - a field, not a default
        _FLEET_HOME / "mail", parse_path, lambda values: f"{values['fleet_home']}/mail"
    )
    mail_rate_per_second: float = _setting(0.0, parse_rate)
    mail_connections: int = _setting(32, partial(parse_whole, 1, 256))
    graph_tenant_id: str = _setting("")
    graph_client_id: str = _setting("")
    graph_client_secret: str = _secret()
    graph_sender: str = _setting("")
    graph_api_base: str = _setting("https://graph.microsoft.com", parse_public_url)
    graph_login_base: str = _setting("https://login.microsoftonline.com", parse_public_url)
    sendgrid_api_key: str = _secret()
    sendgrid_api_base: str = _setting("https://api.sendgrid.com", parse_public_url)
    sendgrid_webhook_key: str = _secret()
    resend_api_key: str = _secret()
    resend_webhook_secret: str = _secret()
    bounce_mailbox_url: str = _secret(parse_mailbox_address)
    resend_api_base: str = _setting("https://api.resend.com", parse_public_url)
    archive_url: str = _setting(
        "", parse_archive_url, lambda given: (given["fleet_home"] / "archive").as_uri()
    )
    archive_retain_days: int = _setting(400, partial(parse_whole, 1, 36_500))
    retention_event_days: int = _setting(90, partial(parse_whole, 40, 36_500, zero=_NEVER))
    retention_mail_days: int = _setting(180, partial(parse_whole, 40, 36_500, zero=_NEVER))
    retention_run_days: int = _setting(800, partial(parse_whole, 400, 36_500, zero=_NEVER))
    retention_statement_days: int = _setting(7, partial(parse_whole, 2, 36_500, zero=_NEVER))
    retention_stats_days: int = _setting(40, partial(parse_whole, 36, 36_500, zero=_NEVER))
    shopify_api_base: str = _setting("", parse_public_url)
    stripe_api_base: str = _setting("https://api.stripe.com", parse_public_url)
    twilio_api_base: str = _setting("https://api.twilio.com", parse_public_url)
    quickbooks_time_api_base: str = _setting("https://rest.tsheets.com", parse_public_url)
    quo_api_base: str = _setting("https://api.quo.com", parse_public_url)
    notion_api_base: str = _setting("https://api.notion.com", parse_public_url)
    notion_requests_per_minute: int = _setting(180, partial(parse_whole, 10, 1_000_000))
    ai_api_base: str = _setting("https://api.openai.com/v1", parse_public_url)
    ai_api_key: str = _secret()
    ai_model: str = _setting("")
    ai_embedding_model: str = _setting("")
    ai_prices: str = _setting("", _prices)
    log_level: str = _setting("info", choice(*LOG_LEVELS))
    log_format: str = _setting(
        "json", choice("json", "console"), lambda _: "console" if sys.stdout.isatty() else "json"
    )
    bind_address: str = _setting("127.0.0.1", parse_ip_address)
    public_url: str = _setting("", parse_public_url)
    public_console_url: str = _setting("", parse_public_url)
    oidc_issuer: str = _setting("", parse_issuer)
    oidc_client_id: str = _setting("")
    oidc_client_secret: str = _secret()
    oidc_second_factor: str = _setting("", _claim)
    ingress_port: int = _setting(8000, _port)
    ingress_workers: int = _setting(2, partial(parse_whole, 1, 64))
    ingress_requests: int = _setting(512, partial(parse_whole, 1, 4096))
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _setting((), parse_networks, lambda _: "")
    console_port: int = _setting(8001, _port)
    flower_port: int = _setting(5555, _port)
    flower_basic_auth: str = _secret()
    flower_broker_api: str = _secret(parse_management_api)

    @property
    def has_pooler(self) -> bool:
        """Whether ``DATABASE_URL`` is a pooler in front of ``DATABASE_DIRECT_URL``."""
        return self.database_direct_url not in ("", self.database_url)

    @property
    def zone(self) -> ZoneInfo:
        """The zone of fleet-wide schedules."""
        return ZoneInfo(self.fleet_timezone)

    @property
    def cron_secrets(self) -> tuple[str, ...]:
        """The secrets of the routes for machines: none if ``CRON_SECRET`` is empty."""
        return (self.cron_secret, self.cron_secret_previous) if self.cron_secret else ()

    @property
    def short_secrets(self) -> dict[str, int]:
        """The secrets for machines that are too short, each with its length."""
        secrets = {"CRON_SECRET": self.cron_secret, "CRON_SECRET_PREVIOUS": self.cron_secret_previous}
        return {name: len(value) for name, value in secrets.items() if 0 < len(value) < SHORTEST_SECRET}


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Build settings from ``environ``; raise ``SettingsInvalid`` naming every fault at once."""
    faults: list[str] = []
    values: dict[str, Any] = {}
    for each in fields(Settings):
        name, raw = each.name.upper(), environ.get(each.name.upper(), "").strip()
        if not raw and (example := each.metadata.get("required")):
            faults.append(f"{name} is missing: {example}")
            continue
        if not raw:
            unset = each.metadata["unset"]
            raw = unset(values) if callable(unset) else unset
        try:
            values[each.name] = each.metadata["parse"](raw)
        except SettingsInvalid as fault:
            faults += [f"{name}{text}" for text in fault.args]
    for name in MAIL_NEEDS.get(values.get("mail_transport", ""), ()):
        if not values[name.lower()]:
            faults.append(f"{name} is missing: MAIL_TRANSPORT={values['mail_transport']} needs it")
    if values.get("oidc_issuer"):
        needed = [name for name in ("OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET") if not values.get(name.lower())]
        faults += [f"{name} is missing: OIDC_ISSUER needs it" for name in needed]
    faults += _find_shared_role(values)
    if faults:
        is_embedded = not environ.get("DATABASE_URL", "").strip()
        hint = "\n  (or start an embedded fleet: `fleet up`)" if is_embedded else ""
        raise SettingsInvalid("settings are wrong:\n  - " + "\n  - ".join(faults) + hint)
    return Settings(**values)


def _find_shared_role(values: Values) -> list[str]:
    """Return the fault of an archive role that is also the application's or the owner's."""
    role = find_role(values.get("audit_archive_database_url", ""))
    for name in ("DATABASE_URL", "MIGRATE_DATABASE_URL"):
        if role and role == find_role(values.get(name.lower(), "")):
            return [
                f"AUDIT_ARCHIVE_DATABASE_URL has the role {role!r} of {name}: it should be a role "
                "of its own, which only deletes archived audit events (docs/audit.md has the SQL)"
            ]
    return []


def describe_exported(values: Mapping[str, str], names: Iterable[str]) -> str:
    """Return the value of ``EXPORTED`` for ``names``, whose values ``fleet env`` prints."""
    return " ".join(f"{name}:{zlib.crc32(values[name].encode()):08x}" for name in names)


def list_exported(environ: Mapping[str, str]) -> set[str]:
    """Return the settings of ``environ`` that ``fleet env`` printed and no person has set since."""
    printed = (one.partition(":") for one in environ.get(EXPORTED, "").split())
    found = ((name, describe_exported(environ, [name]), form) for name, _, form in printed if name in environ)
    return {name for name, now, form in found if not form or now == f"{name}:{form}"}


@cache
def get_settings() -> Settings:
    """Return the process's settings: the environment, else ``.env``, else those of a running embedded fleet.

    Through these (the file ``env`` under ``FLEET_HOME``), ``celery -A tasks ...`` in another terminal uses
    the fleet of ``fleet up``. What ``fleet env`` exported there before a restart of that fleet is ignored; a
    setting that a person sets there afterwards is used.
    """
    merged = {k: v for k, v in dotenv_values(".env").items() if v is not None} | dict(os.environ)
    home = Path(merged.get("FLEET_HOME") or ".fleet")
    embedded = {k: v for k, v in dotenv_values(home / "env").items() if v is not None}
    exported = list_exported(merged) if embedded else ()
    return read_settings(embedded | {name: merged[name] for name in merged if name not in exported})
