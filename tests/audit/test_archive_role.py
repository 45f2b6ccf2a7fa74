"""Only the archive role deletes events, and only recorded ones older than 90 days."""

from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from services.audit.append import AuditEntry, Mutation, append_all
from services.audit.archive_reader import archive_key
from services.core.clock import utc_now
from services.core.db import transaction
from services.fleet.embedded.servers import EmbeddedServers
from services.schema.migrate import apply_migrations
from tests.audit.chains import append_chain

NOW = utc_now()
OLD = NOW - timedelta(days=100)
MANIFEST = "a" * 64

_FLOOR = (
    "forget(integer)", "redact(integer, text[])", "set_stages(text, integer, text[])", "stages(integer)",
    "sync(jsonb)", "transition(text, integer, text, uuid, text, text, integer)",
)  # fmt: skip
MAY_EXECUTE = {
    "audit_truncate(integer, bigint, text)": {"shopfleet_owner", "shopfleet_archive"},
    "floor_add(integer, text)": {"shopfleet_floor"},
    "floor_person(text, integer)": {"shopfleet_floor"},
    **{f"floor_{one}": {"shopfleet_floor", "shopfleet_app"} for one in _FLOOR},
}
"""Every function that runs with its owner's rights, and the roles that may call it."""


@pytest.fixture(autouse=True)
def chain(engine: Engine) -> None:
    """Eight events older than 90 days and three newer ones."""
    with transaction(engine) as tx:
        append_chain(tx, 8, 1, OLD)
        append_chain(tx, 3, 1, NOW - timedelta(days=1), first=9)


def count(engine: Engine) -> int:
    with engine.connect() as tx:
        return int(tx.execute(text("select count(*) from audit_events where seq <= 11")).scalar_one())


def note(engine: Engine, carried: dict[str, object], noted: dict[str, object]) -> None:
    """Write the event and the row of an archive that does not exist."""
    with transaction(engine) as tx:
        last_hash = tx.scalar(text("select hash from audit_events where shop_id = 1 and seq = 8"))
        sums: dict[str, object] = {
            "first_seq": 1,
            "last_seq": 8,
            "last_hash": last_hash,
            "manifest_sha256": MANIFEST,
        }
        mutation = Mutation("audit_archives", "1", "archived", None, sums | carried)
        append_all(tx, [AuditEntry(1, "x", "audit.archive", "r", [mutation])], NOW)
        tx.execute(
            text(
                "insert into audit_archives (shop_id, first_seq, last_seq, first_prev_hash, last_hash,"
                " object_key, object_sha256, object_bytes, manifest_key, manifest_sha256, event_seq,"
                " archived_at) values (1, :first_seq, :last_seq, '', :last_hash, :key || '.jsonl.gz', '', 1,"
                " :key || '.manifest.json', :manifest_sha256, :event, now())"
            ),
            sums | {"event": 12, "key": archive_key(1, 1, 8)} | carried | noted,
        )


def cut(role: Engine, through: int, manifest: str = MANIFEST) -> int:
    with role.begin() as tx:
        statement = text("select audit_truncate(1, :through, :manifest)")
        return int(tx.execute(statement, {"through": through, "manifest": manifest}).scalar_one())


@pytest.mark.parametrize(
    ("through", "carried", "noted", "message"),
    [
        (7, {}, {}, "no archive of this chain ends with row 7"),
        (
            8,
            {},
            {"manifest_sha256": "b" * 64},
            "no archive of this chain ends with row 8 and has the manifest",
        ),
        (8, {"manifest_sha256": "b" * 64}, {"manifest_sha256": MANIFEST}, "does not carry"),
        (8, {}, {"event": 3}, "is not before the head"),
        (8, {}, {"event": 11}, "does not carry"),
        (8, {}, {"last_hash": "c" * 64}, "does not carry"),
        (8, {"last_hash": "c" * 64}, {}, "is not the one that was archived"),
        (8, {"first_seq": 2}, {}, "rows before 2 are not in this archive"),
        (12, {"last_seq": 12}, {}, "is not before the head"),
    ],
)
def test_function_refuses_the_archive_role_an_unrecorded_cut(
    engine: Engine,
    archive_engine: Engine,
    through: int,
    carried: dict[str, object],
    noted: dict[str, object],
    message: str,
) -> None:
    note(engine, carried, noted)

    with pytest.raises(IntegrityError, match=message):
        cut(archive_engine, through)

    assert count(engine) == 11


def test_the_function_refuses_the_archive_role_where_no_archive_is_noted(
    engine: Engine, archive_engine: Engine
) -> None:
    with pytest.raises(IntegrityError, match="no archive of this chain"):
        cut(archive_engine, 8)

    assert count(engine) == 11


def test_the_function_refuses_the_archive_role_rows_younger_than_90_days(
    engine: Engine, archive_engine: Engine, owner_engine: Engine
) -> None:
    with owner_engine.begin() as tx:
        tx.execute(text("update audit_events set at = now() - interval '89 days' where seq = 8"))
    note(engine, {}, {})

    with pytest.raises(IntegrityError, match="younger than 90 days"):
        cut(archive_engine, 8)

    assert count(engine) == 11


def test_archive_role_deletes_recorded_rows_older_than_90_days(
    engine: Engine, archive_engine: Engine
) -> None:
    note(engine, {}, {})

    assert cut(archive_engine, 8) == 8
    assert count(engine) == 3


OF_ALL_ROLES = [
    "delete from audit_events where seq <= 8",
    "update audit_events set at = now()",
    "truncate audit_events",
    "update audit_archives set last_seq = 11",
    "delete from audit_archives",
    "delete from audit_checkpoints",
    "alter table audit_events disable trigger all",
    "drop function audit_truncate(integer, bigint, text)",
    "alter function audit_truncate(integer, bigint, text) set search_path = pg_temp",
    "alter function audit_truncate(integer, bigint, text) owner to current_user",
    "create or replace function audit_truncate(of_shop integer, through bigint, manifest text) returns bigint"
    " language sql as 'delete from public.audit_events returning 1::bigint'",
    "create function public.intruder() returns int language sql as 'select 1'",
    "create schema intruder",
    "create rule gone as on insert to audit_events do also delete from audit_archives",
    "create policy none on audit_events using (false)",
    "grant delete on audit_events to current_user",
    "set role shopfleet_owner",
    "set role postgres",
    "set session authorization shopfleet_owner",
    "set session_replication_role = replica",
    "grant shopfleet_owner to current_user",
    "alter role current_user superuser",
]
DENIED = r"permission denied|must be owner|must be able to|must have|[Oo]nly roles with"


@pytest.mark.parametrize("statement", OF_ALL_ROLES)
@pytest.mark.parametrize("name", ["application", "archive"])
def test_neither_role_is_allowed(engine: Engine, archive_engine: Engine, name: str, statement: str) -> None:
    role = engine if name == "application" else archive_engine
    note(engine, {}, {})

    with pytest.raises(DBAPIError, match=DENIED), role.begin() as tx:
        tx.execute(text(statement))
        if statement.startswith("grant delete"):  # without the right to grant, PostgreSQL only warns
            tx.execute(text("delete from audit_events"))

    assert count(engine) == 11


@pytest.mark.parametrize(
    "statement",
    [
        "select audit_truncate(1, 8, '" + MANIFEST + "')",
        "select public.audit_truncate(of_shop => 1, through => 8, manifest => '" + MANIFEST + "')",
        "do $$ begin perform public.audit_truncate(1, 8, '" + MANIFEST + "'); end $$",
        "set role shopfleet_archive",
        "set session authorization shopfleet_archive",
        "grant shopfleet_archive to current_user",
        "grant execute on function audit_truncate(integer, bigint, text) to current_user;"
        " select audit_truncate(1, 8, '" + MANIFEST + "')",
    ],
)
def test_the_applications_role_cannot_cut_with_a_forged_note_and_event(
    engine: Engine, statement: str
) -> None:
    note(engine, {}, {})

    with pytest.raises(DBAPIError, match=DENIED), engine.begin() as tx:
        tx.exec_driver_sql(statement)

    assert count(engine) == 11


def test_the_function_of_two_arguments_that_the_application_had_is_gone(engine: Engine) -> None:
    note(engine, {}, {})

    with pytest.raises(DBAPIError, match="does not exist"), engine.begin() as tx:
        tx.execute(text("select audit_truncate(1, 8)"))


@pytest.mark.parametrize(
    "statement", ["select * from audit_events", "select * from shops", "table work_queue"]
)
def test_the_archive_role_reads_no_table(archive_engine: Engine, statement: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"), archive_engine.connect() as tx:
        tx.execute(text(statement))


_FOREVER = "() returns timestamptz language sql as $$ select 'infinity'::timestamptz $$"
SHADOWS = (
    "create temporary table audit_archives (like public.audit_archives)",
    "create temporary table audit_events (like public.audit_events)",
    "create function pg_temp.max(bigint) returns bigint language sql as 'select 1000::bigint'",
    f"create function pg_temp.clock_timestamp{_FOREVER}",
    "create schema evil",
    f"create function evil.clock_timestamp{_FOREVER}",
    "set search_path = evil, pg_temp, public, pg_catalog",
)


def test_temporary_tables_and_functions_that_shadow_names_change_nothing_in_the_function(
    servers: EmbeddedServers, engine: Engine
) -> None:
    """Run as the owner, who may create them: another role would prove nothing about the function."""
    with psycopg.connect(servers.migrate_database_url) as owner:
        for statement in SHADOWS:
            owner.execute(statement)
        owner.execute("insert into pg_temp.audit_events select * from public.audit_events")
        owner.execute(
            "insert into pg_temp.audit_archives (id, first_seq, last_seq, shop_id, last_hash,"
            " manifest_sha256, event_seq, first_prev_hash, object_key, object_sha256, object_bytes,"
            " manifest_key, archived_at) values (1, 1, 11, 1, '', %s, 12, '', '', '', 1, '', now())",
            [MANIFEST],
        )
        with pytest.raises(psycopg.errors.CheckViolation, match="no archive of this chain"):
            owner.execute("select public.audit_truncate(1, 11, %s)", [MANIFEST])
        owner.rollback()

    with psycopg.connect(servers.migrate_database_url) as owner:
        owner.execute("update audit_events set at = now() where seq = 8")
        owner.commit()
    note(engine, {}, {})
    with psycopg.connect(servers.migrate_database_url) as owner:
        for statement in SHADOWS:
            owner.execute(statement)
        with pytest.raises(psycopg.errors.CheckViolation, match="younger than 90 days"):
            owner.execute("select public.audit_truncate(1, 8, %s)", [MANIFEST])
        owner.rollback()
    assert count(engine) == 11


def test_every_function_with_its_owners_rights_is_pinned_and_of_the_roles_that_are_listed(
    owner_engine: Engine,
) -> None:
    with owner_engine.connect() as tx:
        found = tx.execute(
            text(
                "select oidvectortypes(p.proargtypes) as types, p.proname, p.proconfig,"
                "       (select array_agg(case grantee when 0 then 'public' else grantee::regrole::text end)"
                "          from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))) as roles"
                "  from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
                " where p.prosecdef and n.nspname not in ('pg_catalog', 'information_schema')"
            )
        ).all()

    assert {f"{row.proname}({row.types})": set(row.roles) for row in found} == MAY_EXECUTE
    for row in found:
        assert "search_path=pg_catalog, pg_temp" in row.proconfig, row.proname


def test_a_role_that_is_no_longer_named_loses_the_right_at_the_next_migration(
    servers: EmbeddedServers, engine: Engine, archive_engine: Engine
) -> None:
    note(engine, {}, {})
    try:
        apply_migrations(servers.migrate_database_url, "shopfleet_app")
        with pytest.raises(DBAPIError, match="permission denied"):
            cut(archive_engine, 8)
    finally:
        apply_migrations(servers.migrate_database_url, "shopfleet_app", "shopfleet_archive")
    assert cut(archive_engine, 8) == 8
