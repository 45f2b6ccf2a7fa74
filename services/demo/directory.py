"""The demo's folder, emptied for each run, and its settings."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from services.core.crypto import get_sealer
from services.core.db import drop_engine, get_engine
from services.core.settings import Settings, get_settings
from services.fleet.embedded.state import HomeLock, make_folder, remove_data, write_private
from services.fleet.errors import FleetError

MARK = "made-by-fleet-demo"
PORTS = ("INGRESS_PORT", "CONSOLE_PORT", "FLOWER_PORT")


def clear_home(home: Path) -> None:
    """Make ``home`` an empty folder marked as the demo's; ``FleetError`` if it contains anything else."""
    found = {entry.name for entry in home.iterdir()} if home.is_dir() else set()
    if MARK not in found and found - {"lock"}:
        raise FleetError(
            f"{home} contains files that are not a demo's: name an empty or a new folder with --home"
        )
    lock = HomeLock(home)
    try:
        if MARK in found:
            remove_data(home)
        for entry in home.iterdir():
            if entry.name in ("lock", MARK):
                continue
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        write_private(home / MARK, "Each `fleet demo` empties this folder.\n")
        make_folder(home / "logs", 0o700)
    finally:
        lock.release()


@contextmanager
def isolated_environment(home: Path) -> Iterator[None]:
    """Hide ``.env`` and all settings except ports: the demo must not use a real fleet's accounts."""
    folder = Path.cwd()
    with _restored_environment():
        for name in {each.name.upper() for each in fields(Settings)} - set(PORTS):
            os.environ.pop(name, None)
        os.environ["LOG_FORMAT"] = "json"
        os.chdir(home)
        try:
            yield
        finally:
            os.chdir(folder)


@contextmanager
def use_fleet_settings(values: dict[str, str]) -> Iterator[None]:
    """Use the settings and the database of the fleet with ``values`` in this process."""
    try:
        with _restored_environment():
            os.environ.update(values)
            get_settings.cache_clear()
            get_sealer.cache_clear()
            drop_engine()
            try:
                yield
            finally:
                get_engine().dispose()
                drop_engine()
    finally:
        get_settings.cache_clear()
        get_sealer.cache_clear()


@contextmanager
def _restored_environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
