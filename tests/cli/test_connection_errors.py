"""A server that cannot be used is one error that names it, the reason and what to do, without a password."""

import os
import socket
import subprocess
from pathlib import Path

import pytest
import redis

from services.core.errors import describe_server
from tests.cli.programs import run_celery, run_program
from tests.cli.test_unknown_values import BIN

PASSWORD = "never-printed"


@pytest.mark.parametrize(
    ("line", "server"),
    [
        ("fleet shops list", "the database at 127.0.0.1:1/shop is not reachable"),
        ("fleet migrate", "the database at 127.0.0.1:1/shop cannot be migrated"),
        ("celery -A tasks backlog", "the database at 127.0.0.1:1/shop is not reachable"),
        ("celery -A tasks purge --dry-run", "the broker at 127.0.0.1:1/0 is not reachable"),
        ("celery -A tasks purge -f", "the broker at 127.0.0.1:1/0 is not reachable"),
        ("celery -A tasks inspect ping", "the broker at 127.0.0.1:1/0 is not reachable"),
        ("celery -A tasks status", "the broker at 127.0.0.1:1/0 is not reachable"),
        ("celery -A tasks call sweep", "the broker at 127.0.0.1:1/0 is not reachable"),
    ],
)
def test_a_failed_connection_names_the_server_and_no_password(line: str, server: str, tmp_path: Path) -> None:
    program, *words = line.split()
    unreachable = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DATABASE_URL": f"postgresql://shopfleet:{PASSWORD}@127.0.0.1:1/shop",
        "BROKER_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0",
        "SECRET_KEY": "k" * 40,
        "FLEET_ENV_NAMES": "DATABASE_URL",
    }
    failed = subprocess.run(
        [str(BIN / program), *words],
        env=unreachable, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert failed.returncode == 1
    assert server in failed.stderr
    remedy = 'fleet doctor` shows more. After a restart run eval "$(fleet env)" again'
    assert remedy in failed.stderr or "MIGRATE_DATABASE_URL" in failed.stderr
    assert PASSWORD not in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stderr


def test_another_broker_than_that_of_the_processes_is_refused(environment: dict[str, str]) -> None:
    refused = run_celery("-A", "tasks", "-b", "redis://:hidden@127.0.0.1:1/0", "inspect", "ping")

    assert refused.returncode == 1
    assert "names another broker than BROKER_URL" in refused.stderr
    assert "hidden" not in refused.stderr


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("send shopify --shop harbour", "accepts connections and gave no answer within 2 s. It hangs: "),
        ("migrate", "cannot be migrated: connection timeout expired"),
        ("migrate --dry-run", "cannot be migrated: connection timeout expired"),
    ],
)
def test_a_database_that_accepts_and_does_not_answer_is_named(line: str, what: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"127.0.0.1:{silent.getsockname()[1]}/shop"
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SECRET_KEY": "k" * 40}
        env |= {"DATABASE_URL": f"postgresql://ada@{server}", "BROKER_URL": "redis://127.0.0.1:1/0"}
        failed = subprocess.run(
            [str(BIN / "fleet"), *line.split()],
            env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip

    assert failed.returncode == 1
    assert f"the database at {server} {what}" in failed.stderr


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("program", ["celery -A tasks backlog", "celery -A tasks inspect ping"])
@pytest.mark.parametrize(
    ("scheme", "ending", "reason"),
    [
        ("redis", "", "accepts connections and gave no answer within 2 s. It hangs: restart it"),
        (
            "rediss",
            "?ssl_ca_certs=/nofile",
            "refuses the connection: there is no file ssl_ca_certs=/nofile",
        ),
    ],
)
def test_the_reason_why_the_broker_cannot_be_used_is_printed(
    program: str, scheme: str, ending: str, reason: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/0{ending}"
        failed = run_program(*program.split(), env=os.environ | {"BROKER_URL": url})

    assert failed.returncode == 1
    assert reason in failed.stderr
    assert failed.stderr.count("Error: ") == 1


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("command", ["inspect ping", "call sweep"])
def test_a_broker_without_memory_is_named_as_such(command: str, broker_url: str) -> None:
    with redis.Redis.from_url(broker_url) as valkey:
        valkey.config_set("maxmemory", "200kb")
        try:
            failed = run_celery("-A", "tasks", *command.split())
        finally:
            valkey.config_set("maxmemory", 0)

    assert failed.returncode == 1
    assert "takes no message" in failed.stderr
    assert "of maxmemory 0.2 MB. Raise maxmemory" in failed.stderr
    assert failed.stderr.count("Error: ") == 1


@pytest.mark.usefixtures("engine", "broker_url")
@pytest.mark.parametrize("program", ["celery -A tasks backlog", "celery -A tasks inspect ping"])
def test_a_login_that_the_broker_refuses_is_not_a_broker_that_is_away(program: str) -> None:
    url = f"redis://ada:{PASSWORD}@{describe_server(os.environ['BROKER_URL'])}"
    failed = run_program(*program.split(), env=os.environ | {"BROKER_URL": url})

    assert failed.returncode == 1
    assert " refuses the connection: " in failed.stderr
    assert "Check BROKER_URL" in failed.stderr
    assert PASSWORD not in failed.stdout + failed.stderr
