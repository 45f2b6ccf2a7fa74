"""One database is one fleet: ``fleet up`` with a broker of its own refuses a database that is in use."""

from pathlib import Path

import psycopg
import pytest

from services.core.locks import LEADER_LOCK
from services.fleet import other_fleet
from services.fleet.embedded.servers import EmbeddedServers
from tests.fakes.settings import settings_of
from tests.fleet.test_up import fleet


def test_a_database_on_which_a_beat_leads_is_refused_before_anything_starts(
    servers: EmbeddedServers, tmp_path: Path
) -> None:
    with psycopg.connect(servers.database_url, autocommit=True) as leader:
        leader.execute("select pg_advisory_lock(%s)", [LEADER_LOCK])
        refused = fleet(tmp_path, "up", "--auto-ports", DATABASE_URL=servers.database_url)
        output, _ = refused.communicate(timeout=60)

    assert refused.returncode == 1
    assert "another fleet runs on the database at 127.0.0.1:" in output
    assert "set BROKER_URL and SECRET_KEY to its values" in output
    assert not (tmp_path / "servers").exists()


@pytest.mark.parametrize("lock", [LEADER_LOCK + 1, 0])
def test_another_lock_and_a_database_that_does_not_answer_are_not_another_fleet(
    servers: EmbeddedServers, lock: int
) -> None:
    with psycopg.connect(servers.database_url, autocommit=True) as session:
        session.execute("select pg_advisory_lock(%s)", [lock])
        with settings_of(DATABASE_URL=servers.database_url, DATABASE_DIRECT_URL=""):
            assert other_fleet.main() == 0
    with settings_of(DATABASE_URL="postgresql://x@127.0.0.1:1/x", DATABASE_DIRECT_URL=""):
        assert other_fleet.main() == 0
