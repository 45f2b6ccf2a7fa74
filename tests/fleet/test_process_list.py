"""The list of processes of a fleet."""

import re
from pathlib import Path

from services.fleet.process_list import BEATS, RESTRICTED, WORKERS, plan_programs
from services.ledger.topics import QUEUES, TOPICS

_ENV = {
    "INGRESS_PORT": "8000", "CONSOLE_PORT": "8001", "FLOWER_PORT": "5555",
    "SANDBOX_PORT": "9000", "MAIL_SINK_PORT": "1025", "FLOWER_BASIC_AUTH": "fleet:secret",
}  # fmt: skip


def test_every_queue_has_exactly_one_worker() -> None:
    taken = [queue for _, queues, _ in WORKERS for queue in queues.split(",")]

    assert sorted(taken) == sorted(QUEUES)


def test_sandbox_and_mail_sink_are_optional() -> None:
    home = Path("/somewhere")
    bare = {p.name for p in plan_programs(_ENV, home, home, sandbox=False, mail_sink=False)}
    full = {p.name for p in plan_programs(_ENV, home, home, sandbox=True, mail_sink=True)}

    assert full - bare == {"sandbox", "mail-sink"}
    assert bare == {"ingress", "console", "flower", *BEATS, *(name for name, _, _ in WORKERS)}


def test_no_secret_is_on_a_command_line_and_every_process_knows_its_name() -> None:
    home = Path("/somewhere with space")
    programs = plan_programs(_ENV, home, home, sandbox=True, mail_sink=True)

    assert not [p.name for p in programs if "secret" in " ".join(p.argv)]
    assert all(p.env["FLEET_PROCESS"] == p.name for p in programs)
    assert "secret" not in repr(programs)


def test_workers_release_their_work_on_a_stop_signal() -> None:
    home = Path("/somewhere")
    workers = [
        p for p in plan_programs(_ENV, home, home, sandbox=False, mail_sink=False) if "worker" in p.argv
    ]

    assert len(workers) == len(WORKERS)
    assert all(p.env["REMAP_SIGTERM"] == "SIGQUIT" for p in workers)
    assert all(p.argv[1:4] == ("-m", "tasks", "worker") for p in workers)


def test_health_addresses_are_on_loopback() -> None:
    home = Path("/somewhere")
    programs = plan_programs(_ENV, home, home, sandbox=True, mail_sink=True)

    urls = {p.name: p.health_url for p in programs if p.health_url}

    assert urls.keys() == {"ingress", "console", "flower", "sandbox"}
    assert all(re.match(r"http://127\.0\.0\.1:\d+/", url) for url in urls.values())


def test_a_restricted_setting_reaches_only_the_process_that_uses_it() -> None:
    home = Path("/somewhere")
    env = _ENV | dict.fromkeys(RESTRICTED, "postgresql://x:secret@127.0.0.1/x")

    programs = plan_programs(env, home, home, sandbox=True, mail_sink=True)
    holders = {name: {p.name for p in programs if p.env[name]} for name in RESTRICTED}

    queue = TOPICS["audit_archive"].queue
    workers = {name for name, queues, _ in WORKERS if queue in queues.split(",")}
    assert holders == {
        "AUDIT_ARCHIVE_DATABASE_URL": workers,
        "MIGRATE_DATABASE_URL": set(),
        "FLOWER_BROKER_API": {"flower"},
    }
