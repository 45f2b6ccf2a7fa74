"""Bring a database to the newest shape, and give the application's role what it needs and no more."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from services.core.db import driver_url

_LOCK = 0x5F1EE7
"""Advisory lock: two ``fleet migrate`` at once take turns."""

_GRANTS = (
    "grant usage on schema public to {role}",
    "grant select, insert, update, delete on all tables in schema public to {role}",
    "grant usage, select on all sequences in schema public to {role}",
    "revoke update, delete, truncate on audit_events, audit_checkpoints, audit_archives from {role}",
    "revoke insert, update, delete, truncate on audit_mutations from {role}",
    "revoke insert, update, delete on alembic_version from {role}",
    # Reconciliation holds both books together in a temporary table. Everybody may make one by PostgreSQL's
    # default; a role that may not grant it leaves that default as it is.
    "do $do$ begin execute format('grant temporary on database %I to {role}', current_database()); "
    "exception when insufficient_privilege then null; end $do$",
)

_CUT = "audit_truncate(integer, bigint, text)"

_ARCHIVE_GRANTS = (
    "revoke all on all tables in schema public from {role}",
    "revoke all on all sequences in schema public from {role}",
    "grant usage on schema public to {role}",
    f"grant execute on function {_CUT} to {{role}}",
)

_REVOKE_CUT = f"""
do $do$ declare held record; begin
  for held in select distinct a.grantee::regrole as role from pg_proc p, aclexplode(p.proacl) a
               where p.oid = '{_CUT}'::regprocedure and a.grantee not in (0, p.proowner)
  loop execute format('revoke all on function {_CUT} from %s', held.role); end loop;
end $do$
"""  # noqa: S608 - the text is our own
"""A role that had the archive's rights before, and is no longer named, loses them."""


def alembic_config() -> Config:
    """Return Alembic's configuration; it needs no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def find_revision(tx: Connection) -> str | None:
    """Return the revision that the database is at, or None when it is empty."""
    return MigrationContext.configure(tx).get_current_revision()


def head_revision() -> str:
    """Return the newest revision that this package knows."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert head is not None  # noqa: S101 - the package ships at least one migration
    return head


def apply_migrations(url: str, app_role: str = "", archive_role: str = "") -> tuple[str | None, str]:
    """Migrate the database at ``url`` to head and grant ``app_role`` and ``archive_role`` their rights.

    Only ``archive_role`` may then delete archived audit events; without one, no role but the owner.
    Returns the revisions before and after. All of it is one transaction: a migration that fails
    leaves the database as it was. ``url`` is a role that owns the schema; ``app_role`` may be that
    same role (then there is nothing to grant).
    """
    engine = create_engine(driver_url(url))
    try:
        with engine.begin() as tx:
            tx.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            before = find_revision(tx)
            config = alembic_config()
            config.attributes["connection"] = tx
            command.upgrade(config, "head")
            tx.execute(text(_REVOKE_CUT))
            for role, grants in ((app_role, _GRANTS), (archive_role, _ARCHIVE_GRANTS)):
                if role and role != make_url(url).username:
                    quoted = tx.dialect.identifier_preparer.quote(role)
                    for grant in grants:
                        tx.execute(text(grant.format(role=quoted)))
            return before, head_revision()
    finally:
        engine.dispose()
