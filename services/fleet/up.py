"""``fleet up``: starts the whole fleet on one machine, waits until it is healthy, and stops it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TextIO

from services.core.ports import LOOPBACK, is_free
from services.core.settings import EXPORTED, Settings, describe_exported, read_settings
from services.fleet.child import Reaper
from services.fleet.embedded.servers import POSTGRES_PORT, VALKEY_PORT, EmbeddedServers
from services.fleet.embedded.state import (
    PASSWORDS,
    HomeLock,
    choose_area,
    close_folders,
    end_orphans,
    end_servers,
    find_account,
)
from services.fleet.envfile import SECRET_NAMES, ensure_secrets, read_merged, record_running, record_stopped
from services.fleet.errors import FleetError, ServerFailed
from services.fleet.ports import hold_port, pick_ports
from services.fleet.process_list import plan_programs
from services.fleet.processes import Supervisor

_PORTS = {"INGRESS_PORT": 8000, "CONSOLE_PORT": 8001, "FLOWER_PORT": 5555}


@dataclass(frozen=True, slots=True)
class RunningFleet:
    """A started fleet. ``values`` is its environment, secrets included."""

    supervisor: Supervisor
    values: dict[str, str]
    home: Path


def run_up(home: Path, *, auto_ports: bool = False, sandbox: bool = False) -> None:
    """Run the fleet until Ctrl-C, SIGTERM or SIGHUP; raise ``FleetError`` or ``SettingsInvalid``."""
    stop = threading.Event()
    running: list[Supervisor] = []

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        for supervisor in running:
            supervisor.request_stop()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    try:
        with start_fleet(home, auto_ports=auto_ports, sandbox=sandbox, catalogue=sandbox) as fleet:
            running.append(fleet.supervisor)
            if not stop.is_set():
                threading.Thread(target=_announce, args=(fleet, stop), daemon=True).start()
            while not stop.is_set() and not fleet.supervisor.wait(1.0):
                pass
            fleet.supervisor.stream.write("fleet", "stopping")
    except ServerFailed:
        if not stop.is_set():  # a step of the start that Ctrl-C interrupted has not failed
            raise


@contextmanager
def start_fleet(
    home: Path,
    *,
    auto_ports: bool = False,
    sandbox: bool = False,
    catalogue: bool = False,
    out: TextIO | None = None,
) -> Iterator[RunningFleet]:
    """Yield a started fleet; stop it afterwards.

    ``sandbox``: with the provider sandbox; ``catalogue``: its shops have sample items.
    """
    home = home.resolve()
    given = {name: value for name, value in read_merged(os.environ, Path.cwd()).items() if value}
    with ExitStack() as stack:
        lock = HomeLock(home)
        stack.callback(lock.release)
        end_orphans(home)
        # The processes write personal data: only the owner may read their files.
        stack.callback(os.umask, os.umask(0o077))
        close_folders(home)
        reaper = Reaper()
        stack.callback(reaper.close)
        if given.get("DATABASE_URL") and not given.get("BROKER_URL"):
            refuse_other_fleet(os.environ | given)
        embedded = _find_embedded_ports(home, given)
        wanted = _find_wanted_ports(given, sandbox=sandbox)
        picked = pick_ports({**wanted, **embedded}, auto=auto_ports, hold=partial(hold_port, held=stack))
        values = _choose_values(home, given, {name: picked[name] for name in wanted})
        read_settings({"DATABASE_URL": "postgresql://", "BROKER_URL": "redis://"} | values | given)
        servers = stack.enter_context(
            EmbeddedServers.start(
                home,
                postgres_port=picked.get("EMBEDDED_POSTGRES_PORT", POSTGRES_PORT),
                valkey_port=picked.get("EMBEDDED_VALKEY_PORT", VALKEY_PORT),
                auto_ports=auto_ports,
                with_postgres=not given.get("DATABASE_URL"),
                with_valkey=not given.get("BROKER_URL"),
                lock=lock,
                reaper=reaper,
            )
        )
        values["DATABASE_URL"] = servers.database_url or given["DATABASE_URL"]
        values["BROKER_URL"] = servers.broker_url or given["BROKER_URL"]
        direct = given.get("DATABASE_DIRECT_URL") or values["DATABASE_URL"]
        for name, url, default in (
            ("MIGRATE_DATABASE_URL", servers.migrate_database_url, direct),
            ("AUDIT_ARCHIVE_DATABASE_URL", servers.archive_database_url, ""),
        ):
            values[name] = url or given.get(name) or default
        env = {"PYTHONUNBUFFERED": "1"} | given | values
        if sys.stdout.isatty():
            env.setdefault("LOG_FORMAT", "console")
        migrate(env)
        stack.callback(record_stopped, home)
        chosen = sorted(values.keys() - given.keys() - {"FLEET_HOME"})
        record_running(home, _list_recorded(given) | values | {EXPORTED: describe_exported(values, chosen)})
        has_sink = "MAIL_SINK_PORT" in values
        programs = plan_programs(
            env, home, Path.cwd(), sandbox=sandbox, mail_sink=has_sink, catalogue=catalogue
        )
        supervisor = Supervisor(programs, reaper=reaper, adopted=servers.children, out=out)
        stack.callback(supervisor.stop)
        supervisor.start()
        yield RunningFleet(supervisor=supervisor, values=env, home=home)


def migrate(env: Mapping[str, str]) -> None:
    """Apply the migrations; raise ``ServerFailed`` with the reason."""
    if fault := _run_step("services.cli.main", env, "migrate"):
        raise ServerFailed(
            f"the fleet of FLEET_HOME={env['FLEET_HOME']} cannot start: {fault}. To start an empty one, set "
            "FLEET_HOME to another folder"
        )


def refuse_other_fleet(env: Mapping[str, str]) -> None:
    """Raise ``ServerFailed`` if a beat leads on the given database: this fleet would have its own broker."""
    if fault := _run_step("services.fleet.other_fleet", env):
        raise ServerFailed(fault)


def _run_step(module: str, env: Mapping[str, str], *arguments: str) -> str:
    """Run ``module`` in another process: its libraries would stay in the supervisor's memory.

    Returns its output if it failed, else an empty text.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout.strip().removeprefix("Error: ") if done.returncode else ""


def _find_embedded_ports(home: Path, given: dict[str, str]) -> dict[str, int]:
    """Return the wanted ports of the embedded servers; end servers of ``home`` that a killed fleet left."""
    wanted = {}
    for name, url, default in (
        ("EMBEDDED_POSTGRES_PORT", "DATABASE_URL", POSTGRES_PORT),
        ("EMBEDDED_VALKEY_PORT", "BROKER_URL", VALKEY_PORT),
    ):
        if not given.get(url):
            wanted[name] = _number(given, name, default)
    # Without the file no server was ever started here, and nothing is created before the settings are read.
    if not all(map(is_free, wanted.values())) and (home / PASSWORDS).exists():
        end_servers(choose_area(home, find_account(home), throwaway=False))
    return wanted


def _find_wanted_ports(given: dict[str, str], *, sandbox: bool) -> dict[str, int]:
    wanted = dict(_PORTS)
    if sandbox:
        wanted["SANDBOX_PORT"] = 9000
    if not given.get("SMTP_URL") and given.get("MAIL_TRANSPORT", "smtp") == "smtp":
        wanted["MAIL_SINK_PORT"] = 1025
    return {name: _number(given, name, default) for name, default in wanted.items()}


def _choose_values(home: Path, given: dict[str, str], ports: Mapping[str, int]) -> dict[str, str]:
    """Return ports, secrets and sandbox addresses; ports alone override settings in ``given``."""
    extra = ensure_secrets(home) | {"ARCHIVE_URL": (home / "archive").as_uri()}
    if "MAIL_SINK_PORT" in ports:
        extra["SMTP_URL"] = f"smtp://{LOOPBACK}:{ports['MAIL_SINK_PORT']}"
    if "SANDBOX_PORT" in ports:
        url = f"http://{LOOPBACK}:{ports['SANDBOX_PORT']}"
        for name in ("SHOPIFY", "STRIPE", "QUO", "NOTION", "QUICKBOOKS_TIME"):
            extra[f"{name}_API_BASE"] = f"{url}/{name.lower().replace('_', '-')}"
    chosen = {name: value for name, value in extra.items() if not given.get(name)}
    return {name: str(port) for name, port in ports.items()} | chosen | {"FLEET_HOME": str(home)}


def _list_recorded(given: Mapping[str, str]) -> dict[str, str]:
    """Return the settings in ``given`` that ``fleet env`` passes on.

    Its secrets are not among them: the file keeps the generated ones, which open what is stored in this home.
    """
    names = {one.name.upper() for one in fields(Settings)} - set(SECRET_NAMES)
    return {name: value for name, value in given.items() if name in names}


def _number(given: dict[str, str], name: str, default: int) -> int:
    raw = given.get(name, "").strip() or str(default)
    if not raw.isdecimal() or not 1 <= int(raw) <= 65535:
        raise FleetError(f"{name}={raw!r} should be a whole number from 1 to 65535")
    return int(raw)


def _announce(fleet: RunningFleet, stop: threading.Event) -> None:
    """Log the addresses once the fleet is healthy, and each minute the processes that are not."""
    write = fleet.supervisor.stream.write
    while not stop.is_set():
        try:
            fleet.supervisor.wait_healthy(60.0)
            break
        except ServerFailed as error:
            write("fleet", str(error))
    if stop.is_set():
        return
    for label, name in zip(("webhooks", "console", "flower"), _PORTS, strict=True):
        write("fleet", f"{label:<9} http://{LOOPBACK}:{fleet.values[name]}/")
    if "SANDBOX_PORT" in fleet.values:
        write("fleet", "simulated providers: fleet shops connect SHOP (docs/sandbox.md)")
    write("fleet", 'ready. To use it in another terminal: eval "$(fleet env)"')
