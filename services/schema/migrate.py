"""Migrations of the database, and the rights of the application's and the archive's role.

A new database is created from the packages' ``tables.py`` and ``after_tables.sql``, at the newest
revision; migrations in ``versions/`` only change a database that exists.
Source: https://alembic.sqlalchemy.org/en/latest/cookbook.html#building-uptodate
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from services.core.db import SESSION_SETTINGS, driver_url
from services.core.errors import ShopfleetError
from services.schema.models import metadata

_AFTER_TABLES = Path(__file__).with_name("after_tables.sql")
_SHOP_FLOOR = Path(__file__).with_name("shop_floor.sql")
_LOCK = 0x5F1EE7
"""Advisory lock: two ``fleet migrate`` at the same time run one after the other."""

REMOVED = frozenset(f"{number:04}" for number in range(1, 18))
"""Revisions of the first development versions, whose migrations are gone."""

_GRANTS = (
    "grant usage on schema public to {role}",
    "grant select, insert, update, delete on all tables in schema public to {role}",
    "grant usage, select on all sequences in schema public to {role}",
    "revoke update, delete, truncate on audit_events, audit_checkpoints, audit_archives from {role}",
    "revoke insert, update, delete, truncate on audit_mutations from {role}",
    "revoke insert, update, delete, truncate on audit_verifications from {role}",
    "grant insert (shop_id, at, findings) on audit_verifications to {role}",
    "revoke delete, truncate on archive_keys from {role}",
    "revoke insert, update, delete on alembic_version from {role}",
    "revoke insert, update, delete, truncate on stage_sets, floor_orders, order_stages, stage_transitions "
    "from {role}",
    "grant execute on function floor_stages(integer), floor_set_stages(text, integer, text[]), "
    "floor_transition(text, integer, text, uuid, text, text, integer), floor_sync(jsonb), "
    "floor_redact(integer, text[]), floor_forget(integer) to {role}",
    # Only floor_transition changes the stage of an order.
    "revoke insert, update on orders from {role}",
    "do $do$ declare names text; begin select string_agg(quote_ident(attname), ', ') into names "
    "from pg_attribute where attrelid = 'orders'::regclass and attnum > 0 and not attisdropped "
    "and attname <> 'stage'; execute format('grant insert (%1$s), update (%1$s) on orders to %2$I', names, "
    "current_setting('shopfleet.role')); end $do$",
    # Reconciliation uses a temporary table. PostgreSQL allows it to every role by default; an owner that may
    # not grant it leaves the default as it is.
    "do $do$ begin execute format('grant temporary on database %I to %I', current_database(), "
    "current_setting('shopfleet.role')); exception when insufficient_privilege then null; end $do$",
)

_SET_FOR_DATABASE = """
do $do$ begin execute format('alter database %I set {name} = ''{value}''', current_database());
exception when insufficient_privilege then null; end $do$
"""
"""For sessions through a pooler. An owner of the schema that does not own the database may not set them."""

_CUT = "audit_truncate(integer, bigint, text)"

_ARCHIVE_GRANTS = (
    "revoke all on all tables in schema public from {role}",
    "revoke all on all sequences in schema public from {role}",
    "grant usage on schema public to {role}",
    f"grant execute on function {_CUT} to {{role}}",
)

_REVOKE_CUT = f"""
do $do$ declare grantee record; begin
  for grantee in select distinct a.grantee::regrole as role from pg_proc p, aclexplode(p.proacl) a
               where p.oid = '{_CUT}'::regprocedure and a.grantee not in (0, p.proowner)
  loop execute format('revoke all on function {_CUT} from %s', grantee.role); end loop;
end $do$
"""  # noqa: S608 - the text is our own
"""Revokes the archive's rights from every role except the owner; the configured role gets them again."""


class SchemaUnknown(ShopfleetError):
    """The database is at a revision that this version cannot migrate from."""


CONNECT_ARGS = {"connect_timeout": 5}
"""A server that accepts a connection and does not answer is an error after 5 seconds."""


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def find_revision(tx: Connection) -> str | None:
    """Return the revision that the database is at, or None when it is empty."""
    return MigrationContext.configure(tx).get_current_revision()


def head_revision() -> str:
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert head is not None  # noqa: S101 - the package ships at least one migration
    return head


def check_revision(tx: Connection) -> str | None:
    """Return the database's revision, or None; raise ``SchemaUnknown`` if it is not a known one."""
    revision = find_revision(tx)
    if revision in REMOVED:
        raise SchemaUnknown(
            f"the database is at revision {revision}, of migrations that were removed before the first "
            "release: nothing was migrated. Export its data, create a new database and run fleet migrate "
            "there, or stay with the last version that has the migrations 0001 to 0017"
        )
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaUnknown(
            f"the database is at revision {revision}, newer than {head_revision()}, the newest that this "
            "version has: nothing was migrated. Run the version that migrated this database, or a newer one"
        )
    return revision


def apply_migrations(url: str, app_role: str = "", archive_role: str = "") -> tuple[str | None, str]:
    """Migrate the database at ``url`` to the newest revision and grant both roles their rights.

    Only ``archive_role`` may then delete archived audit events; if it is empty, only the owner. Returns the
    revisions before and after. All of it is one transaction. ``url`` is a role that owns the schema;
    ``app_role`` may be the same role (then nothing is granted). Raises ``SchemaUnknown``.
    """
    engine = create_engine(driver_url(url), connect_args=CONNECT_ARGS)
    try:
        with engine.begin() as tx:
            tx.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            before = check_revision(tx)
            config = alembic_config()
            config.attributes["connection"] = tx
            if before is None:
                metadata.create_all(tx, checkfirst=False)
                tx.exec_driver_sql(_AFTER_TABLES.read_text(), execution_options={"no_parameters": True})
                command.stamp(config, "head")
            else:
                command.upgrade(config, "head")
            tx.exec_driver_sql(_SHOP_FLOOR.read_text(), execution_options={"no_parameters": True})
            for name, value in SESSION_SETTINGS.items():
                tx.execute(text(_SET_FOR_DATABASE.format(name=name, value=value)))
            tx.execute(text(_REVOKE_CUT))
            for role, grants in ((app_role, _GRANTS), (archive_role, _ARCHIVE_GRANTS)):
                if role and role != make_url(url).username:
                    tx.execute(text("select set_config('shopfleet.role', :role, true)"), {"role": role})
                    quoted = sql.Identifier(role).as_string()
                    for grant in grants:
                        statement = grant.format(role=quoted)
                        tx.exec_driver_sql(statement, execution_options={"no_parameters": True})
            return before, head_revision()
    finally:
        engine.dispose()
