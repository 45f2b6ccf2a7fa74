"""``fleet up``: start, stop, refusals. The journeys test the work of its processes."""

import os
import shlex
import signal
import smtplib
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest

from services.core.ports import LOOPBACK, is_free
from services.core.settings import EXPORTED, describe_exported
from services.fleet.embedded.servers import VALKEY_PORT
from services.fleet.embedded.state import find_owner
from services.fleet.envfile import SECRET_NAMES, read_env, read_merged
from services.fleet.errors import PortTaken
from services.fleet.ports import find_free_port, hold_port, pick_ports
from tests.fleet.conftest import IS_ROOT
from tests.fleet.waiting import is_running, wait_for

_OURS = (
    "DATABASE_URL", "MIGRATE_DATABASE_URL", "AUDIT_ARCHIVE_DATABASE_URL", "BROKER_URL", "FLEET_HOME",
    *SECRET_NAMES,
)  # fmt: skip


def fleet(home: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if name not in _OURS} | more
    return subprocess.Popen(
        [sys.executable, "-m", "services.cli.main", *arguments],
        env=env | {"FLEET_HOME": str(home)},
        cwd=home.parent,  # a folder without a developer's .env
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def has_started(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the supervisor has started Flower, which is the last process of its list."""
    below = psutil.Process(process.pid).children() if process.poll() is None else []
    return any(environ_of(child).get("FLEET_PROCESS") == "flower" for child in below)


@contextmanager
def running(home: Path, *, umask: int = -1, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield ``fleet up`` once its processes have been started."""
    with (home.parent / "output").open("w") as output:
        env = {name: value for name, value in os.environ.items() if name not in _OURS}
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli.main", "up", "--auto-ports"],
            env=env | {"FLEET_HOME": str(home)} | more,
            cwd=home.parent,
            stdout=output,
            stderr=output,
            umask=umask,
        )
    try:
        wait_for(lambda: has_started(process) or process.poll() is not None, seconds=60)
        assert process.poll() is None, (home.parent / "output").read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def environ_of(process: psutil.Process) -> dict[str, str]:
    """Return the environment of a process; empty if it has ended."""
    try:
        return process.environ()
    except psutil.NoSuchProcess:
        return {}


def test_fleet_starts_joins_refuses_a_second_stops_and_killed_leaves_nothing(home: Path) -> None:
    given = {"PUBLIC_URL": "https://hooks.example.com", "AI_API_KEY": "sk-of-a-test"}
    with running(home, **given) as up:
        below = [child.pid for child in psutil.Process(up.pid).children(recursive=True)]
        assert find_owner(home) == up.pid
        assert stat.S_IMODE((home / "env").stat().st_mode) == 0o600

        stated, _ = fleet(home, "env").communicate()
        joined = dict(word.split("=", 1) for word in shlex.split(stated.replace("export ", "")))
        with psycopg.connect(joined["DATABASE_URL"]) as connection:
            assert connection.execute("select count(*) from work_queue").fetchone() == (0,)
        assert joined["FLEET_HOME"] == str(home)
        assert given.items() <= joined.items()
        assert not any(name in joined[EXPORTED] for name in given), "a person gave them"
        assert {"BROKER_URL", "INGRESS_PORT", "CONSOLE_PORT", "FLOWER_PORT", *SECRET_NAMES} <= joined.keys()
        with psycopg.connect(joined["AUDIT_ARCHIVE_DATABASE_URL"]) as connection:
            assert connection.execute("select current_user").fetchone() == ("shopfleet_archive",)
        programs = Path(sys.executable).parent
        joining = f'eval "$({programs}/fleet env)"; command -v fleet; command -v celery'
        shell = {"PATH": "/usr/bin:/bin", "FLEET_HOME": str(home)}
        found = subprocess.check_output(["sh", "-c", joining], env=shell, cwd="/", text=True)
        assert found.split() == [str(programs / "fleet"), str(programs / "celery")]
        holders = {
            environ["FLEET_PROCESS"]
            for environ in map(environ_of, psutil.Process(up.pid).children(recursive=True))
            if environ.get("AUDIT_ARCHIVE_DATABASE_URL") or environ.get("MIGRATE_DATABASE_URL")
        }
        assert holders <= {"worker-night"}

        second = fleet(home, "up", "--auto-ports")
        refusal, _ = second.communicate()
        assert second.returncode == 1
        assert f"already running on {home} (pid {up.pid})" in refusal

        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=90) == 0
        wait_for(lambda: not any(map(is_running, below)))
        assert find_owner(home) is None
        assert read_env(home).keys() == set(SECRET_NAMES)

    with running(home, **joined) as up:
        assert "This shell has the settings of an earlier fleet" in (home.parent / "output").read_text()
        again = read_env(home)
        names = [[one.partition(":")[0] for one in values[EXPORTED].split()] for values in (joined, again)]
        assert names[0] == names[1]
        with psycopg.connect(again["DATABASE_URL"]) as connection:
            assert connection.execute("select count(*) from work_queue").fetchone() == (0,)
        below = [child.pid for child in psutil.Process(up.pid).children(recursive=True)]

        up.kill()
        up.wait()

        wait_for(lambda: not any(map(is_running, below)))
        assert find_owner(home) is None
        out, _ = fleet(home, "env").communicate()
        assert "no fleet runs on" in out


def test_only_values_that_no_person_gave_are_dropped_from_a_joined_shell(tmp_path: Path) -> None:
    joined = {EXPORTED: "BROKER_URL SECRET_KEY", "BROKER_URL": "redis://x", "DATABASE_URL": "postgresql://y"}
    (tmp_path / ".env").write_text("BROKER_URL=redis://own\n")

    merged = read_merged(joined, tmp_path)

    assert merged == {"BROKER_URL": "redis://own", "DATABASE_URL": "postgresql://y"}
    joined |= {EXPORTED: describe_exported(joined, ["BROKER_URL"]), "BROKER_URL": "redis://set-since"}
    assert read_merged(joined, tmp_path)["BROKER_URL"] == "redis://set-since"


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def open_fleet(shared_home: Path) -> Iterator[Path]:
    """The home of a fleet whose shell denies other users nothing."""
    home = shared_home
    (home / "mail").mkdir(parents=True)
    (home / "mail").chmod(0o755)  # as in an earlier version
    home.chmod(OPEN_TO_OTHERS.get(".", 0o700))
    with running(home, umask=0):
        yield home


def test_the_readme_can_be_tried_as_written_in_a_fresh_shell(open_fleet: Path) -> None:
    home = open_fleet
    root = Path(__file__).parents[2]
    block = (root / "README.md").read_text().partition("## Try it")[2].split("```")[1]
    lines = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    assert lines[0].startswith("make up ")

    port = int(read_env(home)["INGRESS_PORT"])
    wait_for(lambda: is_listening(port), seconds=60)
    shell = {"PATH": "/usr/bin:/bin", "HOME": str(home.parent), "FLEET_HOME": str(home)}
    tried = subprocess.run(
        ["sh", "-e"], input="\n".join(lines[1:]), env=shell, cwd=root,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip

    assert tried.returncode == 0, tried.stdout
    assert '"status":"accepted"' in tried.stdout
    assert "order_ingest" in tried.stdout


def test_taken_ports_end_the_start_and_are_named_together(home: Path) -> None:
    names = ("INGRESS_PORT", "FLOWER_PORT", "EMBEDDED_POSTGRES_PORT")
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        ports = {name: str(one.getsockname()[1]) for name, one in zip(names, taken, strict=True)}
        up = fleet(home, "up", **ports)
        refusal, _ = up.communicate()

    assert up.returncode == 1
    for name, port in ports.items():
        assert f"port {port} ({name}) is taken by" in refusal
    assert f"pid {os.getpid()}" in refusal
    assert "make up AUTO_PORTS=1" in refusal
    assert find_owner(home) is None


OPEN_TO_OTHERS = {".": 0o711, "servers": 0o711, "servers/run": 0o711} if IS_ROOT else {}
"""With root, the servers run as another account, which needs access to these folders but cannot list them."""

PUBLIC = "servers/binaries"
"""Copies of the servers' programs, for that account to run."""


def files_open_to_others(home: Path) -> dict[str, int]:
    """Return every file and folder of ``home`` that is open to another user."""
    modes = {str(path.relative_to(home)): path.lstat().st_mode & 0o777 for path in (home, *home.rglob("*"))}
    return {
        name: mode
        for name, mode in modes.items()
        if mode & 0o077 and not name.startswith(PUBLIC) and not (home / name).is_symlink()
    }


def run_fleet(home: Path, *arguments: str) -> str:
    process = fleet(home, *arguments)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    return out


def test_nothing_that_a_fleet_writes_is_open_to_other_users(open_fleet: Path) -> None:
    home = open_fleet
    values = {
        name: shlex.split(value)[0]
        for line in run_fleet(home, "env").splitlines()
        for name, _, value in [line.removeprefix("export ").partition("=")]
    }
    run_fleet(home, "shops", "add", "beech", "--name", "Beech", "--timezone", "America/Vancouver",
              "--currency", "CAD", "--owner-email", "o@example.com")  # fmt: skip
    run_fleet(home, "audit", "anchor")
    port = int(values["MAIL_SINK_PORT"])
    wait_for(lambda: not is_free(port), seconds=60)
    with smtplib.SMTP("127.0.0.1", port) as link:
        link.sendmail("a@example.com", ["b@example.com"], b"Subject: private\r\n\r\nA person.\r\n")

    written = {path.relative_to(home).parts[0] for path in home.rglob("*") if path.is_file()}
    assert {"archive", "mail", "logs", "env", "servers.json"} <= written
    assert files_open_to_others(home) == OPEN_TO_OTHERS


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FLEET_TIMEZONE", "Mars/Olympus", "FLEET_TIMEZONE='Mars/Olympus' should be an IANA name"),
        ("EMBEDDED_POSTGRES_PORT", "high", "EMBEDDED_POSTGRES_PORT='high' should be a whole number"),
    ],
)
def test_wrong_setting_is_reported_before_anything_starts(
    home: Path, name: str, value: str, message: str
) -> None:
    with socket.socket() as other_fleet:
        with suppress(OSError):  # a fleet of another test has the port
            other_fleet.bind((LOOPBACK, VALKEY_PORT))
        up = fleet(home, "up", "--auto-ports", **{name: value})
        refusal, _ = up.communicate()

    assert up.returncode == 1
    assert message in refusal
    assert not (home / "servers").exists()


def test_a_held_port_is_refused_to_a_second_fleet_and_left_to_a_server() -> None:
    with ExitStack() as first, ExitStack() as second, socket.socket() as server:
        port = find_free_port()
        assert hold_port(port, first)
        assert not hold_port(port, second)
        server.bind((LOOPBACK, port))
        server.listen()
        first.close()
        assert not hold_port(port, second)


def test_fleets_that_start_together_get_different_ports() -> None:
    port = find_free_port()
    with ExitStack() as first, ExitStack() as second:
        wanted = {"MAIL_SINK_PORT": port, "FLOWER_PORT": port}
        ports = [
            *pick_ports(wanted, auto=True, hold=partial(hold_port, held=first)).values(),
            *pick_ports(wanted, auto=True, hold=partial(hold_port, held=second)).values(),
        ]
        free = find_free_port()
        with pytest.raises(PortTaken, match=rf"port {free} \(FLOWER_PORT\) is taken by INGRESS_PORT"):
            one_port_twice = {"INGRESS_PORT": free, "FLOWER_PORT": free}
            pick_ports(one_port_twice, auto=False, hold=partial(hold_port, held=second))

    assert port in ports
    assert len(set(ports)) == 4
