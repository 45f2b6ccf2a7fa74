"""Checks of ``fleet doctor`` for the database: it answers, is migrated, and no role may do too much."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services.core.clock import utc_now
from services.core.errors import SettingsInvalid
from services.core.settings import Settings
from services.fleet.doctor_check import DoctorCheck, describe_fault, describe_start

if TYPE_CHECKING:
    from sqlalchemy import Connection

MIGRATE = "run as the role that owns the tables: fleet migrate"
_CONNECT_SECONDS = 3
_LARGEST_CLOCK_DIFFERENCE_SECONDS = 2.0
_FIND_ROLE = """
select current_user as name, tableowner as owner,
       (select rolsuper from pg_roles where rolname = current_user) as is_superuser,
       pg_has_role(tableowner, 'member') as is_owner,
       has_function_privilege('public.audit_truncate(integer, bigint, text)', 'execute') as can_cut,
       has_table_privilege('public.audit_events', 'delete') as can_delete
  from pg_tables where schemaname = 'public' and tablename = 'audit_events'
"""

_FIND_FLOOR_OWNER = """
select r.rolname, r.rolcanlogin from pg_proc p join pg_roles r on r.oid = p.proowner
 where p.oid = 'public.floor_sync(jsonb)'::regprocedure
"""


@contextmanager
def open_database(url: str) -> Iterator["Connection"]:
    """Yield a connection of its own."""
    from sqlalchemy import create_engine

    from services.core.db import driver_url

    options = {"connect_timeout": _CONNECT_SECONDS, "prepare_threshold": None}
    engine = create_engine(driver_url(url), connect_args=options)
    try:
        with engine.connect() as tx:
            yield tx
    finally:
        engine.dispose()


def is_migrated(settings: Settings) -> bool:
    """Return whether the database answers and has the newest migration."""
    from sqlalchemy.exc import SQLAlchemyError

    from services.schema.migrate import find_revision, head_revision

    try:
        with open_database(settings.database_url) as tx:
            return find_revision(tx) == head_revision()
    except SQLAlchemyError:
        return False


def check_database(settings: Settings) -> Iterator[DoctorCheck]:
    """Check the migrations, the clock and the roles over one connection."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from services.core.database_fault import (
        MAKE_WRITABLE,
        DatabaseReadOnly,
        check_writable,
        explain_database_fault,
    )
    from services.schema.migrate import find_revision, head_revision

    try:
        with open_database(settings.database_url) as tx:
            server, at = tx.execute(text("select current_setting('server_version'), clock_timestamp()")).one()
            seconds, url = abs((utc_now() - at).total_seconds()), tx.engine.url
            found, fault = f"PostgreSQL {server} at {url.host}:{url.port}", ""
            try:
                check_writable(tx)
            except DatabaseReadOnly as read_only:
                fault = str(read_only)
            yield DoctorCheck("database", not fault, f"{found} {fault}".strip(), MAKE_WRITABLE)
            seen = f"{seconds:.3f} s difference from the database's"
            remedy = "synchronise both machines' clocks (NTP): leases and signatures depend on them"
            yield DoctorCheck("clock", seconds <= _LARGEST_CLOCK_DIFFERENCE_SECONDS, seen, remedy)
            at, head = find_revision(tx), head_revision()
            yield DoctorCheck("migrations", at == head, f"at {at or 'nothing'}, newest is {head}", MIGRATE)
            if at == head:
                yield check_processes(tx)
                yield from _application_role(tx)
                yield _shop_floor_role(tx)
                yield _archive_role(settings.audit_archive_database_url)
    except SQLAlchemyError as error:
        found, remedy = explain_database_fault(error, settings.database_url, _CONNECT_SECONDS)
        yield DoctorCheck("database", False, found, remedy or describe_start("DATABASE_URL"))


def check_pooler(settings: Settings) -> Iterator[DoctorCheck]:
    """A pooler needs ``DATABASE_DIRECT_URL``, and a database with the settings of our sessions."""
    from services.core.database_url import check_database_url

    try:
        if check_database_url(settings):
            return  # the check of the database names the fault
    except SettingsInvalid as error:
        yield DoctorCheck("pooler", False, str(error), "see PgBouncer in docs/brokers.md")
        return
    seen = "DATABASE_URL is a pooler" if settings.has_pooler else "none between us and the database"
    yield DoctorCheck("pooler", True, seen)


def check_processes(tx: "Connection") -> DoctorCheck:
    """Name the queue whose worker hangs or is gone, and the sweep; a fleet without beat is only noted."""
    from services.ledger.components import describe_components_down, read_components

    now = utc_now()
    health = read_components(tx, now)
    down = describe_components_down(health, now)
    if "beat" not in health.heartbeats:
        return DoctorCheck("processes", True, "beat has not run yet")
    remedy = "start or restart the named process; docs/on-call.md has the steps"
    is_note = "beat" in down
    seen = "; ".join(down.values()) or "beat, the sweep and a worker of each queue answer"
    return DoctorCheck("processes", is_note or not down, seen, remedy, is_note=is_note)


def _application_role(tx: "Connection") -> Iterator[DoctorCheck]:
    """The application must not own tables, and must not be able to delete audit events."""
    role = tx.exec_driver_sql(_FIND_ROLE).one()
    rights = (
        ("is a superuser", role.is_superuser),
        (f"owns the tables, or is a member of {role.owner}", role.is_owner),
        ("may execute audit_truncate", role.can_cut),
        ("may delete from audit_events", role.can_delete),
    )
    excess = [right for right, has in rights if has]
    seen = f"{role.name} of DATABASE_URL "
    seen += ", ".join(excess) or f"cannot delete audit events; the tables belong to {role.owner}"
    remedy = (
        "use a role that owns no table and is a member of no other (docs/audit.md), then run: fleet migrate"
    )
    yield DoctorCheck("audit", not excess, seen, remedy)


def _shop_floor_role(tx: "Connection") -> DoctorCheck:
    """The functions that write stages should belong to a role without login; else it is noted."""
    name, can_login = tx.exec_driver_sql(_FIND_FLOOR_OWNER).one()
    seen = f"its functions belong to {name}, which {'can' if can_login else 'cannot'} log in"
    remedy = (
        "create role shopfleet_floor nologin; grant shopfleet_floor to the owner of the tables; "
        "then run: fleet migrate"
    )
    return DoctorCheck("shop floor", True, seen, remedy, is_note=can_login)


def _archive_role(url: str) -> DoctorCheck:
    from sqlalchemy.exc import SQLAlchemyError

    check = "archive role"
    if not url:
        seen = "AUDIT_ARCHIVE_DATABASE_URL is empty here: a worker without it archives and deletes nothing"
        remedy = "nothing, if the worker of the queue reports has it (docs/audit.md)"
        return DoctorCheck(check, True, seen, remedy, is_note=True)
    try:
        with open_database(url) as tx:
            role = tx.exec_driver_sql(_FIND_ROLE).one()
    except SQLAlchemyError as error:
        remedy = "check AUDIT_ARCHIVE_DATABASE_URL, then run: fleet migrate"
        return DoctorCheck(check, False, describe_fault(error), remedy)
    if role.can_delete:
        remedy = "it should have no right on a table: create another role (docs/audit.md)"
        return DoctorCheck(check, False, "it may delete any audit event", remedy)
    seen = f"it {'may' if role.can_cut else 'may not'} delete archived events"
    return DoctorCheck(check, role.can_cut, seen, MIGRATE)
