"""Each promised server of Debian's packages starts and answers."""

from pathlib import Path

import httpx
import psycopg
import redis

from services.fleet.embedded.servers import EmbeddedServers
from tests.installation.package_databases import PgBouncer
from tests.installation.package_servers import RabbitMQ, Redis, Sentinel, wait_until


def test_redis_and_a_sentinel_answer_with_the_master(tmp_path: Path) -> None:
    with Redis(tmp_path / "redis") as master, Sentinel(tmp_path / "sentinel", master) as sentinel:
        assert redis.Redis.from_url(master.url).info("server")["redis_version"].startswith("7.")
        client = redis.Redis(port=sentinel.port, password=sentinel.password, decode_responses=True)
        assert client.execute_command("sentinel", "get-master-addr-by-name", "fleet")[1] == str(master.port)


def test_rabbitmq_answers_over_http(tmp_path: Path) -> None:
    with RabbitMQ(tmp_path / "rabbitmq") as rabbitmq:
        wait_until(lambda: httpx.get(f"{rabbitmq.management_url}overview").status_code == 200, "management")


def test_pgbouncer_passes_transactions_on(servers: EmbeddedServers, tmp_path: Path) -> None:
    with (
        PgBouncer(tmp_path / "pgbouncer", servers.database_url) as pooler,
        psycopg.connect(pooler.url, prepare_threshold=None) as connection,
    ):
        assert connection.execute("select current_user").fetchone() == ("shopfleet_app",)
