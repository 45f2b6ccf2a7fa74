"""Migrations lead from nothing to the models, and the application's role can do no more than it needs."""

from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError

from services.audit.chain import FIRST_PREV_HASH, AuditEvent, hash_event
from services.core.db import driver_url
from services.fleet.embedded.servers import EmbeddedServers
from services.schema.migrate import alembic_config, apply_migrations, find_revision, head_revision
from services.schema.models import metadata


def test_migrated_up_from_empty_the_database_equals_the_models(owner_engine: Engine) -> None:
    with owner_engine.connect() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, metadata) == []
        assert find_revision(tx) == head_revision()


def test_migrating_twice_changes_nothing(servers: EmbeddedServers) -> None:
    before, after = apply_migrations(servers.migrate_database_url, "shopfleet_app", "shopfleet_archive")
    assert before == after == head_revision()


@pytest.mark.parametrize(
    "statement",
    [
        "create table intruder (id int)",
        "drop table orders",
        "alter table orders add column x int",
        "truncate work_queue",
        "update audit_events set hash = ''",
        "delete from audit_events",
        "update audit_checkpoints set hash = ''",
        "truncate audit_archives",
        "truncate audit_events cascade",
        "update alembic_version set version_num = 'x'",
    ],
)
def test_the_applications_role_may_not(engine: Engine, statement: str) -> None:
    with engine.connect() as tx, pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        tx.execute(text(statement))


def test_the_runbooks_sql_runs_as_written(engine: Engine) -> None:
    statements = (
        "select status, count(*) from work_queue group by status",
        "select * from work_queue where status='pending' and locked_at < now() - interval '15 minutes'",
        "update work_queue set locked_at=null, locked_by=null where status='pending'",
        "select e.at, e.staff_label, m.summary from audit_events e"
        " join audit_mutations m on m.event_id = e.id"
        " where e.at > now() - interval '1 day' order by e.at desc",
    )
    with engine.begin() as tx:
        for statement in statements:
            tx.execute(text(statement))


@pytest.fixture
def other_database(servers: EmbeddedServers) -> Iterator[str]:
    """A database of its own, empty."""
    admin = create_engine(driver_url(servers.admin_database_url), isolation_level="AUTOCOMMIT")
    with admin.connect() as tx:
        tx.execute(text("create database another owner shopfleet_owner"))
    yield servers.migrate_database_url.rsplit("/", 1)[0] + "/another"
    with admin.connect() as tx:
        tx.execute(text("drop database another with (force)"))
    admin.dispose()


def test_chains_of_the_first_version_are_whole_after_the_migration(other_database: str) -> None:
    engine = create_engine(driver_url(other_database))
    with engine.begin() as tx:
        config = alembic_config()
        config.attributes["connection"] = tx
        command.upgrade(config, "0001")
        for shop_id, seq in ((1, 1), (None, 1), (1, 2)):
            event_id = tx.scalar(
                text(
                    "insert into audit_events (shop_id, seq, at, staff_label, action, request_id, prev_hash, "
                    "hash) values (:shop, :seq, now(), 'ada', 'shop.set', 'r', 'old', 'old') returning id"
                ),
                {"shop": shop_id, "seq": seq},
            )
            for n in range(seq):
                tx.execute(
                    text(
                        "insert into audit_mutations (event_id, table_name, row_id, summary, before, after) "
                        "values (:event, 'shops', '1', :said, null, '{\"b\": 1, \"a\": [null]}')"
                    ),
                    {"event": event_id, "said": f"change {n}"},
                )

    apply_migrations(other_database)

    with engine.connect() as tx:
        found = tx.execute(text("select * from audit_events order by shop_id nulls first, seq")).all()
        shown = tx.execute(text("select summary, after from audit_mutations order by event_id, place")).all()
    engine.dispose()
    last: dict[int | None, str] = {}
    for row in found:
        event = AuditEvent(
            row.shop_id,
            row.seq,
            row.at,
            row.staff_label,
            row.action,
            row.request_id,
            row.work_id,
            row.mutations,
        )
        assert row.prev_hash == last.get(row.shop_id, FIRST_PREV_HASH)
        last[row.shop_id] = hash_event(row.prev_hash, event)
        assert row.hash == last[row.shop_id]
    assert [row.summary for row in shown] == ["change 0", "change 0", "change 0", "change 1"]
    assert shown[0].after == {"a": [None], "b": 1}


def test_a_failed_migration_leaves_the_database_as_it_was(servers: EmbeddedServers) -> None:
    admin = create_engine(driver_url(servers.admin_database_url), isolation_level="AUTOCOMMIT")
    with admin.connect() as tx:
        tx.execute(text("create database half_done owner shopfleet_owner"))
    url = servers.migrate_database_url.rsplit("/", 1)[0] + "/half_done"
    engine = create_engine(driver_url(url))
    with engine.begin() as tx:
        tx.execute(text("create table work_queue (in_the_way int)"))
    with pytest.raises(ProgrammingError, match="already exists"):
        apply_migrations(url, "shopfleet_app")
    with engine.connect() as tx:
        tables = set(
            tx.execute(text("select tablename from pg_tables where schemaname = 'public'")).scalars()
        )
    engine.dispose()
    with admin.connect() as tx:
        tx.execute(text("drop database half_done"))
    admin.dispose()
    assert tables == {"work_queue"}
