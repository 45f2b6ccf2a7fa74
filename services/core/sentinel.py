"""``BROKER_URL`` with several Redis Sentinels, which know the current master and replace a broken one.

``sentinel://[user]:password@host1:26379,host2:26379/0?master=NAME&sentinel_password=...``: the first password
is the master's. https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlencode

from services.core.errors import SettingsInvalid

SENTINEL = "sentinel"
DEFAULT_PORT = 26379
OPTIONS = ("master", "sentinel_user", "sentinel_password")
TLS_OPTIONS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
TLS_VALUES = {"ssl_cert_reqs": ("required", "optional", "none"), "ssl_check_hostname": ("true", "false")}

_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:\s]+))(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelUrl:
    """The parts of the URL. Its text and its JSON have no password, because workers send them to Flower."""

    sentinels: tuple[tuple[str, int], ...]
    master: str
    database: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    sentinel_user: str = ""
    sentinel_password: str = field(default="", repr=False)
    tls: Mapping[str, str] = field(default_factory=dict)
    """Options of TLS to the Sentinels and to the master; without any, connections are not encrypted."""

    def __json__(self) -> str:
        """Return the value for kombu's JSON."""
        return repr(self)

    @property
    def kombu_url(self) -> str:
        """The URL for kombu, without passwords: see ``services.core.broker.transport_options``."""
        host, port = self.sentinels[0]
        tls = f"?{urlencode(self.tls)}" if self.tls else ""
        return f"{SENTINEL}://{f'[{host}]' if ':' in host else host}:{port}/{self.database}{tls}"


def parse_sentinel_url(raw: str) -> SentinelUrl:
    """Return the parts of ``raw``; raise ``SettingsInvalid`` with each fault, without a password.

    Each fault begins so that it can follow the name of the setting.
    """
    rest, _, query = raw.partition("://")[2].partition("?")
    authority, _, database = rest.partition("/")
    if f";{SENTINEL}://" in raw:
        raise SettingsInvalid(" has several URLs: name all Sentinels in one: @host1:26379,host2:26379/0")
    login, _, hosts = authority.rpartition("@")
    if "@" in database or "@" in query or {*"@#[]"} & {*login}:
        # The rest of a password would be read as a host or as an option, and then quoted.
        raise SettingsInvalid(
            " has a special character in a password: write %40 for @, %2F for /, %3F for ?, ..."
        )
    user, _, password = login.partition(":")
    faults: list[str] = []
    sentinels = tuple(_parse_host(host, faults, number) for number, host in enumerate(hosts.split(","), 1))
    if database and not database.isdecimal():
        faults.append(f" has the database {database!r}, which should be a number, as in :26379/0?master=NAME")
    options, tls = _parse_options(query, faults)
    if not options.get("master"):
        faults.append(" has no master: add ?master=NAME, its name in `sentinel monitor` of sentinel.conf")
    if faults:
        raise SettingsInvalid(*faults)
    return SentinelUrl(
        sentinels=sentinels,
        database=int(database or 0),
        user=unquote(user),
        password=unquote(password),
        tls={"ssl_cert_reqs": "required"} | tls if tls else {},
        **options,
    )


def _parse_options(query: str, faults: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the options of the Sentinels and those of TLS."""
    found: dict[str, str] = {}
    for number, option in enumerate(filter(None, query.split("&")), 1):
        name, _, value = option.partition("=")
        allowed = TLS_VALUES.get(name)
        if name not in OPTIONS + TLS_OPTIONS:  # not quoted: it may be a part of a password after an &
            fault = f"should be one of {', '.join(OPTIONS + TLS_OPTIONS)}"
            faults.append(f" has after the ? an option {number} that {fault}; write %26 for & in a password")
        elif name in found:
            faults.append(f" has the option {name} twice; write %26 for & in a password")
        elif allowed and value not in allowed:
            faults.append(f" has {name}={value!r}, which should be one of {', '.join(allowed)}")
        found[name] = unquote(value)
    tls = {name: value for name, value in found.items() if name in TLS_OPTIONS}
    return {name: value for name, value in found.items() if name in OPTIONS}, tls


def _parse_host(raw: str, faults: list[str], number: int) -> tuple[str, int]:
    found = _HOST.fullmatch(raw)
    port = int((found and found["port"]) or DEFAULT_PORT)
    if found is None or not 1 <= port <= 65535:
        host = raw.partition(":")[0]  # without the rest, which is a password where the URL has no host
        faults.append(
            f" has the Sentinel number {number} ({host!r}), which should be like host:{DEFAULT_PORT}"
        )
        return "", 0
    return found["ipv6"] or found["name"], port
