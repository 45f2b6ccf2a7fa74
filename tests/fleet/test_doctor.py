"""Findings of ``fleet doctor`` for a correct and for a faulty machine."""

import json
import os
import re
import socket
from pathlib import Path
from pwd import getpwuid

import psycopg
import pytest
import redis
from click.testing import CliRunner
from sqlalchemy import Engine

from services.cli.main import main
from services.core.broker_probe import ping
from services.core.errors import describe_server
from services.core.settings import EXPORTED, get_settings, read_settings
from services.fleet import doctor_broker
from services.fleet.doctor import _user, examine
from services.fleet.doctor_broker import check_broker
from services.fleet.doctor_check import DoctorCheck
from services.fleet.doctor_database import check_database, check_pooler
from services.fleet.embedded.servers import EmbeddedServers
from services.fleet.envfile import record_running
from services.fleet.ports import find_free_port
from services.schema.migrate import apply_migrations

_KEY = "k" * 40


def environ(**more: str) -> dict[str, str]:
    ports = {name: str(find_free_port()) for name in ("INGRESS_PORT", "CONSOLE_PORT", "FLOWER_PORT")}
    return {"SECRET_KEY": _KEY, "BROKER_URL": "redis://127.0.0.1:1/0", **ports, **more}


def test_every_fault_has_a_remedy(home: Path) -> None:
    env = environ(DATABASE_URL="postgresql://nobody:secret@127.0.0.1:1/none")

    faults = {finding.check: finding for finding in examine(env, home) if not finding.ok}

    assert {"database", "broker"} <= faults.keys()
    assert all(finding.remedy for finding in faults.values())
    assert not any("secret" in finding.seen + finding.remedy for finding in faults.values())


def test_user_is_that_of_the_process_whatever_its_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")

    assert _user().seen.startswith(getpwuid(os.geteuid()).pw_name)


def test_a_variable_with_almost_the_name_of_a_setting_is_a_note(home: Path) -> None:
    given = environ(BIND_ADRESS="0.0.0.0", SECRET_KEY_FILE="/run/x", HTTP_PROXY="x", FLEET_PROCESS="x")  # noqa: S104

    found = [one for one in examine(given | {"DATABASE_URL": "postgresql://x"}, home) if one.is_note]

    assert [(one.seen, one.remedy) for one in found if one.check == "settings"] == [
        ("BIND_ADRESS is no setting", "did you mean BIND_ADDRESS?")
    ]


def test_all_wrong_settings_are_reported_together(home: Path) -> None:
    (fault,) = [f for f in examine({"INGRESS_PORT": "many"}, home) if f.check == "settings"]

    assert not fault.ok
    assert all(name in fault.seen for name in ("DATABASE_URL", "BROKER_URL", "SECRET_KEY", "INGRESS_PORT"))


@pytest.mark.parametrize(
    "wrong", [("ARCHIVE_URL", "ftp://x"), ("INGRESS_PORT", "99999"), ("OPERATOR_EMAIL", "x")]
)
def test_what_another_command_refuses_is_refused_beside_a_running_fleet_too(
    home: Path, wrong: tuple[str, str]
) -> None:
    name, value = wrong
    urls = {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "BROKER_URL": "redis://127.0.0.1:1/0"}
    home.mkdir(parents=True)
    record_running(home, {**urls, "ARCHIVE_URL": "file:///archive", "INGRESS_PORT": "8000"})

    (fault,) = [f for f in examine({name: value}, home) if f.check == "settings"]

    assert not fault.ok
    assert f"{name}={value!r}" in fault.seen


@pytest.mark.parametrize(("has_fault", "exit_code"), [(False, 0), (True, 1)])
def test_a_note_is_printed_with_its_remedy_and_does_not_change_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, *, has_fault: bool, exit_code: int
) -> None:
    found = [DoctorCheck("database", True, "answers"), DoctorCheck("x", True, "unset", "set X", is_note=True)]
    found += [DoctorCheck("broker", False, "is away", "start it")] if has_fault else []
    monkeypatch.setattr("services.fleet.doctor.examine", lambda *_: found)

    printed = CliRunner().invoke(main, ["doctor"])
    as_json = CliRunner().invoke(main, ["doctor", "--json"])

    assert (printed.exit_code, as_json.exit_code) == (exit_code, exit_code)
    lines = [line.split(maxsplit=2) for line in printed.output.splitlines()]
    assert lines[:3] == [["ok", "database", "answers"], ["note", "x", "unset"], ["remedy:", "set", "X"]]
    assert [one["is_note"] for one in json.loads(as_json.output)][:2] == [False, True]


def test_each_line_of_a_finding_begins_below_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [DoctorCheck("settings", False, "settings are wrong:\n  - X is missing", "set X")]
    monkeypatch.setattr("services.fleet.doctor.examine", lambda *_: found)

    first, second, _ = CliRunner().invoke(main, ["doctor"]).output.splitlines()

    assert second.index("  - X") == first.index("settings are wrong")


def test_empty_database_is_connected_but_not_migrated(home: Path) -> None:
    with EmbeddedServers.start(home, auto_ports=True, durable=False, with_valkey=False) as servers:
        findings = {f.check: f for f in examine(environ(DATABASE_URL=servers.database_url), home)}

    assert findings["database"].ok
    assert findings["database"].seen.startswith("PostgreSQL 18")
    assert findings["clock"].ok
    assert findings["packages"].ok, findings["packages"].seen
    assert findings["python"].ok
    assert findings["migrations"].remedy == "run as the role that owns the tables: fleet migrate"
    assert not findings["migrations"].ok


def test_roles_that_may_delete_audit_events_are_faults(home: Path) -> None:
    with EmbeddedServers.start(home, auto_ports=True, durable=False, with_valkey=False) as servers:
        app, archive, owner = servers.database_url, servers.archive_database_url, servers.migrate_database_url

        def check_roles(**urls: str) -> dict[str, bool]:
            found = examine(environ(**urls), home)
            return {f.check: f.ok for f in found if f.check in ("audit", "archive role")}

        apply_migrations(owner, "shopfleet_app")
        assert check_roles(DATABASE_URL=app) == {"audit": True, "archive role": True}
        assert check_roles(DATABASE_URL=app, AUDIT_ARCHIVE_DATABASE_URL=archive)["archive role"] is False
        assert check_roles(DATABASE_URL=owner)["audit"] is False
        apply_migrations(owner, "shopfleet_app", "shopfleet_archive")
        assert check_roles(DATABASE_URL=app, AUDIT_ARCHIVE_DATABASE_URL=archive)["archive role"] is True
        assert check_roles(DATABASE_URL=app, AUDIT_ARCHIVE_DATABASE_URL=owner)["archive role"] is False
        wrong = archive.replace("shopfleet_archive:", "shopfleet_archive:x")
        assert check_roles(DATABASE_URL=app, AUDIT_ARCHIVE_DATABASE_URL=wrong)["archive role"] is False

        def find_floor() -> tuple[bool, str]:
            (found,) = (f for f in examine(environ(DATABASE_URL=app), home) if f.check == "shop floor")
            return found.is_note, found.seen

        assert find_floor() == (False, "its functions belong to shopfleet_floor, which cannot log in")
        with psycopg.connect(owner, autocommit=True) as tx:
            tx.execute("alter function floor_sync(jsonb) owner to shopfleet_owner")
        assert find_floor() == (True, "its functions belong to shopfleet_owner, which can log in")


def test_taken_port_is_a_fault_while_no_fleet_runs(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = environ(DATABASE_URL="postgresql://127.0.0.1:1/none", FLOWER_PORT=str(taken.getsockname()[1]))
        findings = {f.check: f for f in examine(env, home)}

    assert not findings["flower_port"].ok
    assert "is taken by" in findings["flower_port"].seen
    assert findings["ingress_port"].ok


def test_weak_secret_is_a_fault_that_names_it_and_its_length(home: Path) -> None:
    env = environ(DATABASE_URL="postgresql://127.0.0.1:1/none", CRON_SECRET="s3cret-of-17-char")
    for more, ok in (({}, False), ({"CRON_SECRET": "c" * 32}, True), ({"CRON_SECRET": ""}, True)):
        findings = {f.check: f for f in examine(env | more, home)}
        assert findings["machine secrets"].ok is ok, more

    (fault,) = [
        f for f in examine(env | {"CRON_SECRET_PREVIOUS": "x" * 31}, home) if f.check[:7] == "machine"
    ]
    assert fault.seen == "CRON_SECRET has 17 characters; CRON_SECRET_PREVIOUS has 31 characters"
    assert "32 or more" in fault.remedy
    assert "s3cret" not in fault.seen + fault.remedy


def find_fault(url: str) -> DoctorCheck:
    """Return the only finding about the broker at ``url``, which is a fault."""
    (fault,) = check_broker(url)
    assert (fault.check, fault.ok) == ("broker", False)
    return fault


def test_a_broker_without_memory_is_a_fault_although_it_answers(broker_url: str) -> None:
    with redis.Redis.from_url(broker_url) as broker:
        broker.config_set("maxmemory", "200kb")
        try:
            fault, milliseconds = find_fault(broker_url), ping(2.0, broker_url)
        finally:
            broker.config_set("maxmemory", 0)
        assert broker.keys() == []

    assert re.search(r"takes no message .*used_memory [1-9.]+ MB of maxmemory 0\.2 MB$", fault.seen)
    assert "raise maxmemory" in fault.remedy
    assert milliseconds is None
    assert ping(2.0, broker_url) is not None


def test_each_fault_of_the_broker_names_the_server_and_has_its_remedy(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_broker, "_SECONDS", 0.1)
    server = describe_server(broker_url)
    refused = find_fault(f"redis://ada:wrong-word@{server}")
    away = find_fault("redis://127.0.0.1:1/0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        frozen = [find_fault(f"{scheme}://{address}/0") for scheme in ("redis", "amqp")]

    assert refused.seen.startswith(f"the broker at {server} refuses the connection: ")
    assert refused.remedy == "check BROKER_URL"
    assert away.seen.startswith("the broker at 127.0.0.1:1/0 is not reachable: ")
    assert away.remedy == "start it, or check the host and port of BROKER_URL"
    for fault in frozen:
        seen = f"the broker at {address}/0 accepts connections and gave no answer within 0.1 s"
        assert (fault.seen, fault.remedy) == (seen, "it hangs: restart it")


def test_each_fault_of_the_database_names_the_server_and_has_its_remedy(engine: Engine, home: Path) -> None:
    def find_database(url: str) -> dict[str, DoctorCheck]:
        settings = read_settings(environ(DATABASE_URL=url))
        return {found.check: found for found in (*check_database(settings), *check_pooler(settings))}

    url = get_settings().database_url
    login, _, server = url.rpartition("@")
    read_only = find_database(f"{url}?options=-c%20default_transaction_read_only%3Don")
    refused = find_database(f"{login}wrong@{server}")

    assert (
        "is read-only (default_transaction_read_only is on): webhooks get 503" in read_only["database"].seen
    )
    assert not read_only["database"].ok
    assert "promote it" in read_only["database"].remedy
    assert read_only["migrations"].ok
    assert refused["database"].seen.startswith(f"the database at {server} refuses the connection: ")
    assert refused["database"].remedy == "check DATABASE_URL"
    assert refused.keys() == {"database"}, "nothing is known of a pooler"


def test_the_remedy_names_fleet_up_only_with_the_settings_of_an_embedded_fleet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "fleet up" not in find_fault("redis://127.0.0.1:1/0").remedy
    monkeypatch.setenv(EXPORTED, "BROKER_URL")
    assert find_fault("redis://127.0.0.1:1/0").remedy == "start it with: fleet up"


def test_a_broker_that_may_delete_messages_is_a_fault(broker_url: str) -> None:
    with redis.Redis.from_url(broker_url) as broker:
        before = broker.config_get("maxmemory-policy")
        try:
            for policy, ok in (("allkeys-lru", False), ("volatile-ttl", False), ("noeviction", True)):
                broker.config_set("maxmemory-policy", policy)
                answers, finding = check_broker(broker_url)
                assert answers.ok
                assert answers.seen.startswith("Valkey 9")
                assert (finding.check, finding.ok) == ("broker policy", ok)
                assert policy in finding.seen
                assert "noeviction" in finding.remedy
        finally:
            broker.config_set("maxmemory-policy", before["maxmemory-policy"])
