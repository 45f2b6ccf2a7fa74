"""``fleet migrate`` against an empty database, as a person runs it."""

import os
from pathlib import Path

import psycopg
import pytest

from services.fleet.embedded.servers import EmbeddedServers
from services.fleet.errors import ServerFailed
from services.fleet.up import migrate
from tests.cli.programs import run_program


def run(home: Path, servers: EmbeddedServers, *arguments: str, **more: str) -> str:
    env = os.environ | {
        "FLEET_HOME": str(home),
        "DATABASE_URL": servers.database_url,
        "MIGRATE_DATABASE_URL": servers.migrate_database_url,
        "AUDIT_ARCHIVE_DATABASE_URL": servers.archive_database_url,
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "SECRET_KEY": "k" * 40,
        **more,
    }
    done = run_program("fleet", "migrate", *arguments, env=env, cwd=home.parent)
    assert (done.returncode != 0) == bool(more), done.stderr
    return done.stderr if more else done.stdout


def test_dry_run_changes_nothing_and_the_second_run_finds_nothing_to_do(home: Path) -> None:
    with EmbeddedServers.start(home, auto_ports=True, durable=False, with_valkey=False) as servers:
        planned = run(home, servers, "--dry-run")
        with psycopg.connect(servers.database_url) as app:
            assert app.execute("select to_regclass('work_queue')").fetchone() == (None,)

        assert run(home, servers).startswith("from nothing to ")
        assert "as before" in run(home, servers)
        assert run(home, servers, "--dry-run") == "nothing to run: the database is at the newest revision\n"

        with psycopg.connect(servers.database_url) as app:
            assert app.execute("select count(*) from work_queue").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute("delete from audit_events")
        with (
            psycopg.connect(servers.archive_database_url) as archive,
            pytest.raises(psycopg.errors.CheckViolation),
        ):
            archive.execute("select audit_truncate(1, 1, '')")
        unknown = servers.archive_database_url.replace("shopfleet_archive", "intruder")
        refusal = run(home, servers, AUDIT_ARCHIVE_DATABASE_URL=unknown)
        assert 'role "intruder" does not exist: nothing was migrated. Create the role' in refusal
        refusal = run(home, servers, MIGRATE_DATABASE_URL=servers.database_url)
        assert refusal.startswith("Error: permission denied") and refusal.count("\n") == 1
        assert "nothing was migrated. MIGRATE_DATABASE_URL needs the role that owns the tables" in refusal
        refusal = run(home, servers, AUDIT_ARCHIVE_DATABASE_URL=servers.database_url)
        assert "AUDIT_ARCHIVE_DATABASE_URL has the role 'shopfleet_app' of DATABASE_URL" in refusal
        with psycopg.connect(servers.migrate_database_url) as owner:
            owner.execute("update alembic_version set version_num = '0017'")
        for arguments in ((), ("--dry-run",)):
            refusal = run(home, servers, *arguments, LOG_LEVEL="info")
            assert "the database is at revision 0017" in refusal
            assert "create a new database" in refusal

    assert planned.startswith("would run s0001: ")


def test_a_start_that_cannot_migrate_names_its_folder_and_the_fault_once(tmp_path: Path) -> None:
    env = {"FLEET_HOME": str(tmp_path), "SECRET_KEY": "k" * 40, "BROKER_URL": "redis://127.0.0.1:1/0"}
    with pytest.raises(ServerFailed) as caught:
        migrate({**env, "DATABASE_URL": "postgresql://ada@127.0.0.1:1/old"})

    assert f"FLEET_HOME={tmp_path} cannot start: the database at 127.0.0.1:1/old cannot" in str(caught.value)
    assert "Error:" not in str(caught.value)
