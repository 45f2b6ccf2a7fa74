"""Parsers of the texts of settings. Each raises ``SettingsInvalid`` with the fault, without the name."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from services.core.errors import SettingsInvalid
from services.core.zone_names import describe_zone_fault, is_zone

Parse = Callable[[str], Any]
"""Returns the value of a setting's text, or raises ``SettingsInvalid`` with the fault, without the name."""


def parse_path(raw: str) -> Path:
    return Path(raw).resolve()


def parse_whole(low: int, high: int, raw: str, zero: str = "") -> int:
    is_number = raw.isdecimal() and len(raw) <= len(str(high))
    if not is_number or not (low <= int(raw) <= high or (zero and raw == "0")):
        raise SettingsInvalid(f"={raw!r} should be a whole number from {low} to {high}{zero}")
    return int(raw)


def parse_rate(raw: str) -> float:
    with suppress(ValueError):
        if 0 <= float(raw) <= 100_000:
            return float(raw)
    raise SettingsInvalid(f"={raw!r} should be mails a second, such as 5 or 0.5; 0: no limit")


def parse_flag(raw: str) -> bool:
    if raw not in ("0", "1"):
        raise SettingsInvalid(f"={raw!r} should be 0 or 1")
    return raw == "1"


def check(is_right: Callable[[str], bool], fault: str, raw: str) -> str:
    """Return ``raw`` if it is right; raise ``SettingsInvalid`` with ``fault`` if not.

    ``fault`` may name ``{raw}``, its ``{length}``, or of a URL the ``{scheme}``, which is no secret.
    """
    if not is_right(raw):
        scheme, has_one, _ = raw.partition("://")
        named = f"begins with {scheme}://, it" if has_one and scheme.isalnum() and len(scheme) < 20 else ""
        raise SettingsInvalid(fault.format(raw=repr(raw), length=len(raw), scheme=named).replace("  ", " "))
    return raw


def choice(*allowed: str) -> Parse:
    return partial(check, allowed.__contains__, f"={{raw}} should be one of {', '.join(allowed)}")


def parse_zone(raw: str) -> str:
    if not is_zone(raw):
        raise SettingsInvalid(f"={raw!r} {describe_zone_fault(raw)}")
    return raw


def parse_ip_address(raw: str) -> str:
    try:
        return str(ip_address(raw))
    except ValueError:
        raise SettingsInvalid(f"={raw!r} should be an address such as 127.0.0.1 or 0.0.0.0") from None


def parse_networks(raw: str) -> tuple[IPv4Network | IPv6Network, ...]:
    networks, faults = [], []
    wanted = "an address such as 10.0.0.4 or a network such as 10.0.0.0/8"
    for part in filter(None, map(str.strip, raw.split(","))):
        try:
            networks.append(ip_network(part))
        except ValueError as fault:
            faults.append(f"={part!r} should be {wanted} ({fault})")
    if faults:
        raise SettingsInvalid(*faults)
    return tuple(networks)
