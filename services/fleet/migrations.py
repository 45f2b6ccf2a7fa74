"""``fleet migrate``, with the settings of this process."""

from alembic.script import ScriptDirectory
from psycopg.errors import InsufficientPrivilege, UndefinedObject
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from services.core.db import driver_url
from services.core.errors import describe_server
from services.core.settings import get_settings
from services.fleet.errors import FleetError
from services.schema.migrate import (
    CONNECT_ARGS,
    alembic_config,
    apply_migrations,
    check_revision,
    head_revision,
)

_REMEDIES = {
    UndefinedObject: "Create the role that DATABASE_URL or AUDIT_ARCHIVE_DATABASE_URL names (create role "
    "NAME login password ...), then run fleet migrate again",
    InsufficientPrivilege: "MIGRATE_DATABASE_URL needs the role that owns the tables, not the application's; "
    "without it fleet migrate uses the role of DATABASE_URL",
}


def migrate_database() -> tuple[str | None, str]:
    """Apply pending migrations and grant the roles their rights; return the revisions before and after."""
    settings = get_settings()
    role = make_url(driver_url(settings.database_url)).username or ""
    archive = settings.audit_archive_database_url
    archive_role = (make_url(driver_url(archive)).username or "") if archive else ""
    try:
        return apply_migrations(settings.migrate_database_url, role, archive_role)
    except OperationalError as error:
        raise _unreachable(error) from None
    except DBAPIError as error:
        why = str(error.orig).strip().splitlines()[0]
        remedies = [remedy for kind, remedy in _REMEDIES.items() if isinstance(error.orig, kind)]
        raise FleetError(". ".join([f"{why}: nothing was migrated", *remedies])) from None


def list_pending_migrations() -> list[tuple[str, str]]:
    """Return revision and title of each migration that would run, in that order."""
    engine = create_engine(driver_url(get_settings().migrate_database_url), connect_args=CONNECT_ARGS)
    try:
        with engine.connect() as tx:
            current = check_revision(tx)
    except OperationalError as error:
        raise _unreachable(error) from None
    finally:
        engine.dispose()
    scripts = ScriptDirectory.from_config(alembic_config())
    found = scripts.iterate_revisions(head_revision(), current or "base")
    return [(script.revision, script.doc) for script in found][::-1]


def _unreachable(error: OperationalError) -> FleetError:
    why = str(error.orig).strip().splitlines()[0]
    server = describe_server(get_settings().migrate_database_url)
    return FleetError(f"the database at {server} cannot be migrated: {why}; check MIGRATE_DATABASE_URL")
