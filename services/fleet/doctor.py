"""``fleet doctor``: checks the requirements of a fleet, with a remedy for each fault."""

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from services.core.clock import utc_now
from services.core.errors import SettingsInvalid
from services.core.settings import SHORTEST_SECRET, Settings, read_settings
from services.fleet.doctor_broker import check_broker
from services.fleet.doctor_check import DoctorCheck
from services.fleet.embedded.state import find_owner
from services.fleet.ports import find_listener, is_free

if TYPE_CHECKING:
    from sqlalchemy import Connection

_LEAST_FREE_BYTES = 1_000_000_000
_LARGEST_CLOCK_DIFFERENCE_SECONDS = 2.0
_SHOWN_LIMITS = 5
"""Shops whose missing orders are named."""
_MIGRATE = "run: fleet migrate"
_UP = "start it with: fleet up"
_INSTALL = "run: pip install -r requirements.txt"
_MAY_DELETE = """
select has_function_privilege('public.audit_truncate(integer, bigint, text)', 'execute') as can_cut,
       has_table_privilege('public.audit_events', 'delete') as can_delete
"""


def examine(environ: Mapping[str, str], home: Path) -> list[DoctorCheck]:
    """Return every finding. ``environ`` is the environment merged with ``.env``."""
    owner = find_owner(home)
    findings = [*_packages(), _disk(home)]
    seen = f"runs on {home}, pid {owner}" if owner else f"none runs on {home}"
    findings.append(DoctorCheck("fleet", True, seen))
    try:
        settings = read_settings(environ)
    except SettingsInvalid as error:
        remedy = "set the named settings in the environment or in .env; in an embedded fleet, " + _UP
        return [*findings, DoctorCheck("settings", False, str(error), remedy)]
    short = [f"{name} has {length} characters" for name, length in settings.short_secrets.items()]
    seen = "; ".join(short) or "long enough, or not set"
    remedy = f"set a secret of {SHORTEST_SECRET} or more: openssl rand -hex 32"
    findings.append(DoctorCheck("settings", True, "complete"))
    findings.append(DoctorCheck("machine secrets", not short, seen, remedy))
    findings += _ports(settings, running=owner is not None)
    findings += _database(settings)
    findings.append(_pooler(settings))
    findings += check_broker(settings.broker_url, settings.flower_broker_api)
    return findings


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
        count += 1
        found = _find_version(requirement.name)
        if not found or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found or 'missing'}, wanted {requirement.specifier}")
    yield DoctorCheck("packages", not wrong, "; ".join(wrong) or f"{count} as required", _INSTALL)


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _disk(home: Path) -> DoctorCheck:
    folder = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    remedy = f"free at least {_LEAST_FREE_BYTES // 10**9} GB, or set FLEET_HOME to a folder on another disk"
    return DoctorCheck("disk", free >= _LEAST_FREE_BYTES, f"{free / 10**9:.1f} GB free for {home}", remedy)


def _ports(settings: Settings, *, running: bool) -> Iterator[DoctorCheck]:
    """Ports must be free while no fleet runs, and have a listener while one does."""
    for name in ("ingress_port", "console_port", "flower_port"):
        port: int = getattr(settings, name)
        free = is_free(port)
        if running:
            seen = f"{port} has no listener" if free else f"{port} has a listener"
            yield DoctorCheck(name, not free, seen, "look for the process's lines in the output of fleet up")
        else:
            seen = f"{port} is free" if free else f"{port} is taken by {find_listener(port)}"
            remedy = f"stop that process, set {name.upper()} to a free port, or use fleet up --auto-ports"
            yield DoctorCheck(name, free, seen, remedy)


@contextmanager
def _connection(url: str) -> Iterator["Connection"]:
    from sqlalchemy import create_engine

    from services.core.db import driver_url

    engine = create_engine(driver_url(url), connect_args={"connect_timeout": 3})
    try:
        with engine.connect() as tx:
            yield tx
    finally:
        engine.dispose()


def _database(settings: Settings) -> Iterator[DoctorCheck]:
    """Check the migrations, the clock and the roles over one connection."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from services.schema.migrate import find_revision, head_revision

    try:
        with _connection(settings.database_url) as tx:
            server, at = tx.execute(text("select current_setting('server_version'), clock_timestamp()")).one()
            seconds, url = abs((utc_now() - at).total_seconds()), tx.engine.url
            yield DoctorCheck("database", True, f"PostgreSQL {server} at {url.host}:{url.port}")
            seen = f"{seconds:.3f} s difference from the database's"
            remedy = "synchronise both machines' clocks (NTP): leases and signatures depend on them"
            yield DoctorCheck("clock", seconds <= _LARGEST_CLOCK_DIFFERENCE_SECONDS, seen, remedy)
            at, head = find_revision(tx), head_revision()
            yield DoctorCheck("migrations", at == head, f"at {at or 'nothing'}, newest is {head}", _MIGRATE)
            if at == head:
                yield from _connections(tx, settings)
                yield _order_limits(tx)
                yield _application_role(tx)
                yield _archive_role(settings.audit_archive_database_url)
    except SQLAlchemyError as error:
        yield DoctorCheck("database", False, _reason(error), f"check DATABASE_URL; an embedded one: {_UP}")


def _pooler(settings: Settings) -> DoctorCheck:
    """A pooler needs ``DATABASE_DIRECT_URL``, and a database with the settings of our sessions."""
    from services.core.db import check_database_url

    try:
        check_database_url(settings)
    except SettingsInvalid as error:
        return DoctorCheck("pooler", False, str(error), "see PgBouncer in docs/brokers.md")
    seen = "DATABASE_URL is a pooler" if settings.has_pooler else "none between us and the database"
    return DoctorCheck("pooler", True, seen)


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]


def _connections(tx: "Connection", settings: Settings) -> Iterator[DoctorCheck]:
    """Yield a finding for each connection that refuses our credential, or one if all of them work."""
    from services.mail.connection_lines import list_connection_lines

    used = [line for line in list_connection_lines(tx, settings.mail_transport) if line.is_used]
    broken = [line for line in used if line.status == "broken"]
    for line in broken:
        since = f"{line.since.astimezone(settings.zone):%Y-%m-%d %H:%M:%S %Z}"
        seen = f"{line.provider} of {line.shop} is broken since {since}: {line.code}"
        yield DoctorCheck("connection", False, seen, line.to_do or line.detail)
    if not broken:
        yield DoctorCheck("connection", True, f"{len(used)} in use, none refuses our credential")


def _order_limits(tx: "Connection") -> DoctorCheck:
    """Name the orders that were not read. That is no fault of the machine: reports are marked incomplete."""
    from services.shopify.backfill.state import list_order_limits

    limits = [f"{slug}: {limit}" for slug, limit in list_order_limits(tx)]
    more = f"; and {len(limits) - _SHOWN_LIMITS} more shops" if len(limits) > _SHOWN_LIMITS else ""
    return DoctorCheck("orders", True, ("; ".join(limits[:_SHOWN_LIMITS]) or "no shop lacks orders") + more)


def _application_role(tx: "Connection") -> DoctorCheck:
    """The application must not be able to delete audit events, by the function or by its rights."""
    role = tx.exec_driver_sql(_MAY_DELETE).one()
    if not role.can_cut and not role.can_delete:
        return DoctorCheck("audit", True, "the application's role cannot delete audit events")
    right = "execute audit_truncate" if role.can_cut else "delete from audit_events"
    remedy = (
        "use a role that owns no table and is a member of no other (docs/audit.md), then run: fleet migrate"
    )
    return DoctorCheck("audit", False, f"the role of DATABASE_URL may {right}", remedy)


def _archive_role(url: str) -> DoctorCheck:
    from sqlalchemy.exc import SQLAlchemyError

    check = "archive role"
    if not url:
        seen = "AUDIT_ARCHIVE_DATABASE_URL is empty here: a worker without it archives and deletes nothing"
        return DoctorCheck(check, True, seen)
    try:
        with _connection(url) as tx:
            role = tx.exec_driver_sql(_MAY_DELETE).one()
    except SQLAlchemyError as error:
        remedy = "check AUDIT_ARCHIVE_DATABASE_URL, then run: fleet migrate"
        return DoctorCheck(check, False, _reason(error), remedy)
    if role.can_delete:
        remedy = "it should have no right on a table: create another role (docs/audit.md)"
        return DoctorCheck(check, False, "it may delete any audit event", remedy)
    return DoctorCheck(
        check, role.can_cut, f"it {'may' if role.can_cut else 'may not'} delete archived events", _MIGRATE
    )
