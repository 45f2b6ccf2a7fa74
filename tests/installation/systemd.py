"""Runs the units of a folder as systemd does, with their drop-ins, environment and signals."""

import fnmatch
import os
import shlex
import signal
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

TARGET = "shopfleet.target"


class Service(Protocol):
    """A service of Debian's packages."""

    def start(self) -> object: ...
    def stop(self) -> None: ...
    def reload(self) -> None: ...


class Unit:
    """A unit of ``folder`` with its drop-ins: ``a-b.service`` also reads ``a-.service.d``."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.values: dict[str, list[str]] = defaultdict(list)
        stem, _, kind = name.rpartition(".")
        words = stem.split("-")
        prefixes = ["-".join(words[:count]) + "-" for count in range(1, len(words))]
        drop_ins = [path for start in prefixes for path in (folder / f"{start}.{kind}.d").glob("*.conf")]
        for path in (*drop_ins, folder / name):
            for line in path.read_text().splitlines():
                key, sign, value = line.partition("=")
                if sign and not line.startswith(("#", "[")):
                    self.values[key].append(value.replace("%N", stem).replace("%%", "%"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What the process gets beside the machine's own."""
        pairs = [word for line in self.values["Environment"] for word in shlex.split(line)]
        for path in self.values["EnvironmentFile"]:
            pairs += shlex.split(Path(path).read_text())
        return dict(pair.split("=", 1) for pair in pairs)

    def start(self, machine: Mapping[str, str], log: Path) -> None:
        """Start the command of ``ExecStart``, unless it runs."""
        if self._process and self._process.poll() is None:
            return
        (command,), (folder,) = self.values["ExecStart"], self.values["WorkingDirectory"]
        assert command.startswith("/"), f"{self.name}: ExecStart should be an absolute path: {command}"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                shlex.split(command),
                cwd=folder,
                env={**machine, **self.environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def terminate(self) -> None:
        """Send SIGTERM as ``KillMode=mixed`` does, unless it is stopped."""
        process = self._process
        if process is not None:
            assert process.poll() is None, f"{self.name} ended by itself with {process.returncode}"
            process.send_signal(signal.SIGTERM)

    def wait_ended(self) -> None:
        """Wait until it has ended, and fail if it needs SIGKILL."""
        process, self._process = self._process, None
        if process is None:
            return
        process.wait(3 * int(self.values["TimeoutStopSec"][0]))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class Systemd:
    """``systemctl`` for the units in ``folder``, and for ``services`` of packages by name."""

    def __init__(
        self, folder: Path, services: Mapping[str, Service], machine: Mapping[str, str], log: Path
    ) -> None:
        self._folder, self._services, self._machine, self._log = folder, services, machine, log
        self.units: dict[str, Unit] = {}
        self.calls: list[str] = []

    def control(self, *words: str) -> None:
        """Run ``systemctl`` with ``words``."""
        self.calls.append(" ".join(words))
        action, *names = words
        match action:
            case "daemon-reload":
                names = [path.name for path in self._folder.glob("*.service")]
                running = {name: unit._process for name, unit in self.units.items()}
                self.units = {name.removesuffix(".service"): Unit(self._folder, name) for name in names}
                for name, unit in self.units.items():
                    unit._process = running.get(name)
            case "enable":
                assert names.pop(0) == "--now"
                self.control("start", *names)
            case "start" | "stop" | "restart" | "reload":
                for name in names:
                    self._act(action, name)
            case _:
                raise AssertionError(f"systemctl {action} is not known here")

    def _act(self, action: str, name: str) -> None:
        if name.endswith(".timer"):
            assert Unit(self._folder, name).values["OnCalendar"]
            assert Unit(self._folder, name.replace(".timer", ".service")).values["ExecStart"]
            return
        if name == TARGET:
            wanted = Unit(self._folder, TARGET).values["Wants"]
            units = [self.units[one.removesuffix(".service")] for line in wanted for one in line.split()]
        elif name in self._services:
            service = self._services[name]
            if action == "reload":
                service.reload()
            if action in ("stop", "restart"):
                service.stop()
            if action in ("start", "restart"):
                service.start()
            return
        else:
            units = [self.units[found] for found in self.units if fnmatch.fnmatch(found, name)]
            assert units, f"there is no unit {name}"
        if action in ("stop", "restart"):  # all at once, as systemd does
            for unit in units:
                unit.terminate()
            for unit in units:
                unit.wait_ended()
        if action in ("start", "restart"):
            for unit in units:
                unit.start(self._machine, self._log)

    def close(self) -> None:
        """End every unit."""
        for unit in self.units.values():
            if unit._process is not None:
                unit._process.send_signal(signal.SIGTERM)
        for unit in self.units.values():
            if unit._process is not None:
                with suppress(subprocess.TimeoutExpired):
                    unit._process.wait(60)
                with suppress(ProcessLookupError):
                    os.killpg(unit._process.pid, signal.SIGKILL)
