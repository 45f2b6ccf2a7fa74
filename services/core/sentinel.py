"""``BROKER_URL`` with several Redis Sentinels, which know the current master and replace a broken one.

``sentinel://[user]:password@host1:26379,host2:26379/0?master=NAME&sentinel_password=...``: the first password
is the master's. https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from services.core.errors import SettingsInvalid

SENTINEL = "sentinel"
DEFAULT_PORT = 26379
OPTIONS = ("master", "sentinel_user", "sentinel_password")

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

    def __json__(self) -> str:
        """Return the value for kombu's JSON."""
        return repr(self)

    @property
    def kombu_url(self) -> str:
        """The URL for kombu, without passwords: see ``services.core.broker.transport_options``."""
        host, port = self.sentinels[0]
        return f"{SENTINEL}://{f'[{host}]' if ':' in host else host}:{port}/{self.database}"


def parse_sentinel_url(raw: str) -> SentinelUrl:
    """Return the parts of ``raw``; raise ``SettingsInvalid`` with each fault, without a password.

    Each fault begins so that it can follow the name of the setting.
    """
    rest, _, query = raw.partition("://")[2].partition("?")
    authority, _, database = rest.partition("/")
    if f";{SENTINEL}://" in raw:
        raise SettingsInvalid(" has several URLs: name all Sentinels in one: @host1:26379,host2:26379/0")
    if "@" in database or "@" in query:
        # The rest of a password would be read as a host or as an option, and then quoted.
        raise SettingsInvalid(" has an @, / or ? in a password: write %40, %2F or %3F for it")
    login, _, hosts = authority.rpartition("@")
    user, _, password = login.partition(":")
    faults: list[str] = []
    sentinels = tuple(_parse_host(host, faults) for host in hosts.split(","))
    if database and not database.isdecimal():
        faults.append(f" has the database {database!r}, which should be a number, as in :26379/0?master=NAME")
    options: dict[str, str] = {}
    for number, option in enumerate(filter(None, query.split("&")), 1):
        name, _, value = option.partition("=")
        if name in OPTIONS and name not in options:
            options[name] = unquote(value)
        else:  # not quoted, because it may be a part of a password after an &
            fault = "is set twice" if name in OPTIONS else f"should be one of {', '.join(OPTIONS)}"
            faults.append(f" has after the ? an option {number} that {fault}; write %26 for & in a password")
    if not options.get("master"):
        faults.append(" has no master: add ?master=NAME, its name in `sentinel monitor` of sentinel.conf")
    if faults:
        raise SettingsInvalid(*faults)
    return SentinelUrl(
        sentinels=sentinels,
        database=int(database or 0),
        user=unquote(user),
        password=unquote(password),
        **options,
    )


def _parse_host(raw: str, faults: list[str]) -> tuple[str, int]:
    found = _HOST.fullmatch(raw)
    port = int((found and found["port"]) or DEFAULT_PORT)
    if found is None or not 1 <= port <= 65535:
        faults.append(f" has the sentinel {raw!r}, which should be like host:{DEFAULT_PORT}")
        return "", 0
    return found["ipv6"] or found["name"], port
