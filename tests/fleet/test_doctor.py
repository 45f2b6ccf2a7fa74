"""Findings of ``fleet doctor`` for a correct and for a faulty machine."""

import json
import os
from pathlib import Path
from pwd import getpwuid

import pytest
import redis
from click.testing import CliRunner

from services.cli.main import main
from services.fleet.doctor import _user, examine
from services.fleet.doctor_broker import check_broker
from services.fleet.doctor_check import DoctorCheck
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
    assert findings["migrations"].remedy == "run: fleet migrate"
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


def test_taken_port_is_a_fault_while_no_fleet_runs(home: Path) -> None:
    import socket

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
