"""``fleet doctor``: checks the requirements of a fleet, with a remedy for each fault."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from pwd import getpwuid
from urllib.parse import unquote, urlsplit

from services.core.counts import format_count
from services.core.errors import SettingsInvalid
from services.core.settings import SHORTEST_SECRET, Settings, read_settings
from services.fleet.doctor_accounts import check_archive, check_mail, check_shops
from services.fleet.doctor_broker import check_broker
from services.fleet.doctor_check import UP, Check, DoctorCheck, OnWait, run_checks
from services.fleet.doctor_console import check_alerts, check_console
from services.fleet.doctor_database import check_database, check_pooler
from services.fleet.doctor_network import check_ports, check_public_url
from services.fleet.embedded.state import find_owner
from services.fleet.envfile import overlay_running, read_env

_LEAST_FREE_BYTES = 1_000_000_000
_INSTALL = "run: pip install -r requirements.txt"
_IMPORTED = (
    "sqlalchemy.dialects.postgresql.psycopg",
    "services.accounts.people",
    "services.alerts.channels",
    "services.mail.routes",
    "services.schema.migrate",
)
"""Imported before the checks: of two threads that import a package, one may see it half imported."""
_URLS = ("DATABASE_URL", "BROKER_URL")
"""Settings of a person that ``fleet up`` uses too, or that differ from those of the fleet by intention."""
_ALMOST = 0.9
"""How similar a misspelled name is to that of a setting."""
SECONDS = 30.0
"""All checks run at once and end within this time."""


def examine(environ: Mapping[str, str], home: Path, on_wait: OnWait | None = None) -> list[DoctorCheck]:
    """Return every finding. ``environ`` is the environment merged with ``.env``."""
    owner = find_owner(home)
    seen = f"fleet up runs on {home}, pid {owner}" if owner else f"no fleet up runs on {home}"
    findings = [*_packages(), _user(), _disk("disk", home), DoctorCheck("fleet", True, seen)]
    given = read_env(home) | dict(environ)
    try:
        read_settings(given)  # as every other command reads them
        urls = {name: environ[name] for name in _URLS if name in environ}
        settings = read_settings(overlay_running(home, given) | urls)
    except SettingsInvalid as error:
        remedy = "set the named settings in the environment or in .env; in an embedded fleet, " + UP
        return [*findings, DoctorCheck("settings", False, str(error), remedy)]
    short = [
        f"{name} has {format_count(length, 'character')}" for name, length in settings.short_secrets.items()
    ]
    seen = "; ".join(short) or "long enough, or not set"
    remedy = f"set a secret of {SHORTEST_SECRET} or more: openssl rand -hex 32"
    findings += [DoctorCheck("settings", True, "complete"), *_misspelled(environ)]
    findings.append(DoctorCheck("machine secrets", not short, seen, remedy))
    if (archive := urlsplit(settings.archive_url)).scheme == "file":
        findings.append(_disk("archive disk", Path(unquote(archive.path))))
    for needed in _IMPORTED:
        import_module(needed)
    return findings + run_checks(_list_checks(settings, running=owner is not None), SECONDS, on_wait=on_wait)


def _misspelled(environ: Mapping[str, str]) -> Iterator[DoctorCheck]:
    """Note each variable that is no setting and has almost the name of one: every process ignores it."""
    names = {one.name.upper() for one in fields(Settings)}
    for name in sorted(environ.keys() - names):
        meant = get_close_matches(name, names, 1, _ALMOST) if name.removesuffix("_FILE") not in names else []
        if meant:
            seen = f"{name} is no setting"
            yield DoctorCheck("settings", True, seen, f"did you mean {meant[0]}?", is_note=True)


def _list_checks(settings: Settings, *, running: bool) -> dict[str, Check]:
    """The checks that wait for something, by the name under which a late one is reported."""
    return {
        "ports": partial(check_ports, settings, running=running),
        "database": partial(check_database, settings),
        "pooler": partial(check_pooler, settings),
        "broker": partial(check_broker, settings.broker_url, settings.flower_broker_api),
        "archive": partial(check_archive, settings),
        "mail": partial(check_mail, settings),
        "public url": partial(check_public_url, settings),
        "console": partial(check_console, settings),
        "alerts": partial(check_alerts, settings),
        "shops": partial(check_shops, settings),
    }


def _packages() -> Iterator[DoctorCheck]:
    """Check Python, the packages and the zone rules: with old rules, days can begin an hour too late."""
    from packaging.requirements import Requirement

    seen = ".".join(map(str, sys.version_info[:3]))
    yield DoctorCheck("python", sys.version_info >= (3, 11), seen, "install Python 3.11 or newer")
    zones = _find_version("tzdata")
    yield DoctorCheck("zone rules", bool(zones), f"tzdata {zones or 'is not installed'}", _INSTALL)
    if not _find_version("shopfleet"):
        yield DoctorCheck("packages", False, "shopfleet is not installed", "run: pip install -e .")
        return
    wrong, count = [], 0
    for requirement in map(Requirement, requires("shopfleet") or ()):
        extra = "embedded" if requirement.marker and "embedded" in str(requirement.marker) else ""
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        found = _find_version(requirement.name)
        if not found and extra:
            continue  # only fleet up needs it
        count += 1
        if not found or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found or 'missing'}, wanted {requirement.specifier}")
    yield DoctorCheck("packages", not wrong, "; ".join(wrong) or f"{count} as required", _INSTALL)


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _user() -> DoctorCheck:
    """Name the user; root is not a fault, because a container has often no other."""
    own = ", which no process needs: docs/production.md makes a user" if os.geteuid() == 0 else ""
    return DoctorCheck("user", True, f"{_find_user()}{own}")


def _find_user() -> str:
    """Return the user of this process. ``getpass`` reads LOGNAME, which a wrapper sets for the audit."""
    try:
        return getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user may have a number and no name
        return f"uid {os.geteuid()}"


def _disk(check: str, home: Path) -> DoctorCheck:
    folder = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    remedy = f"free at least {_LEAST_FREE_BYTES // 10**9} GB, or use a folder on another disk"
    return DoctorCheck(check, free >= _LEAST_FREE_BYTES, f"{free / 10**9:.1f} GB free for {home}", remedy)
