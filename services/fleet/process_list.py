"""Plans the processes of a fleet on one machine from its environment. Pure."""

import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from services.core.ports import LOOPBACK
from services.fleet.child import Program

WORKERS: tuple[tuple[str, str, int], ...] = (
    ("worker-webhooks", "webhooks", 2),
    ("worker-outbound", "inventory,email,sync", 2),
    ("worker-night", "reconciliation,reports", 1),
    ("worker-ops", "ops", 1),
)
"""Name, queues and child processes of each worker. Together they consume every queue."""

BEATS = ("beat-1", "beat-2")
"""Two, for failover: the one that holds a lock in the database is the leader."""

RESTRICTED = {
    "AUDIT_ARCHIVE_DATABASE_URL": ("worker-night",),
    "MIGRATE_DATABASE_URL": (),
    "FLOWER_BROKER_API": ("flower",),
}
"""Settings that only these processes get: the worker of the queue ``reports`` archives, none migrates."""


def plan_programs(
    env: Mapping[str, str], home: Path, cwd: Path, *, sandbox: bool, mail_sink: bool, catalogue: bool = False
) -> tuple[Program, ...]:
    """Return the programs in the order in which they start.

    ``env`` is the environment of all of them, with the ports; each gets its own name as ``FLEET_PROCESS``. A
    setting of ``RESTRICTED`` is empty for all others, which hides its value in ``FLEET_HOME/env``.
    ``catalogue``: the shops of the sandbox have sample items.
    """
    programs = []
    if sandbox:
        port = env["SANDBOX_PORT"]
        options = ("--port", port, *(["--catalogue"] if catalogue else []))
        programs.append(_python("sandbox", "services.sandbox.serve", *options, health=f"{port}/"))
    if mail_sink:
        options = ("--port", env["MAIL_SINK_PORT"], "--folder", str(home / "mail"))
        programs.append(_python("mail-sink", "services.sandbox.mail_sink", *options))
    programs.append(_python("ingress", "services.ingress.serve", health=f"{env['INGRESS_PORT']}/livez"))
    programs += [_worker(name, queues, size) for name, queues, size in WORKERS]
    programs += [_python(name, "tasks", "beat") for name in BEATS]
    programs.append(_python("console", "services.console.serve", health=f"{env['CONSOLE_PORT']}/livez"))
    health = f"{env['FLOWER_PORT']}/healthcheck"
    programs.append(_python("flower", "tasks", "flower", health=health, env={"FLOWER_ADDRESS": LOOPBACK}))
    return tuple(
        # Few threads allocate much: a glibc arena for each of them would only use memory.
        replace(
            program,
            cwd=cwd,
            env={
                "MALLOC_ARENA_MAX": "2",
                **env,
                **{name: "" for name, holders in RESTRICTED.items() if program.name not in holders},
                **program.env,
                "FLEET_PROCESS": program.name,
            },
        )
        for program in programs
    )


def _python(
    name: str, module: str, *options: str, health: str = "", env: Mapping[str, str] = MappingProxyType({})
) -> Program:
    health_url = f"http://{LOOPBACK}:{health}" if health else ""
    return Program(name=name, argv=(sys.executable, "-m", module, *options), health_url=health_url, env=env)


def _worker(name: str, queues: str, size: int) -> Program:
    """Return a worker that returns its running tasks when it is stopped.

    ``REMAP_SIGTERM`` makes SIGTERM a soft shutdown:
    https://docs.celeryq.dev/en/stable/userguide/workers.html#remapping-the-sigterm-signal
    """
    options = ("worker", "-Q", queues, "-c", str(size), "-n", f"{name.removeprefix('worker-')}@%h")
    return _python(name, "tasks", *options, env={"REMAP_SIGTERM": signal.SIGQUIT.name})
