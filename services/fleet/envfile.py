"""``FLEET_HOME/env``, in the form of ``.env``: a running fleet's settings for other tools, and its secrets.

After the fleet has stopped, only the secrets are left.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from services.core.settings import EXPORTED, list_exported
from services.fleet.embedded.state import write_private

SECRET_NAMES = ("SECRET_KEY", "CRON_SECRET", "FLOWER_BASIC_AUTH")


def find_home() -> Path:
    """Return the folder of the embedded fleet: FLEET_HOME of the environment or ``.env``, or ``./.fleet``."""
    return Path(read_merged(os.environ, Path.cwd()).get("FLEET_HOME") or ".fleet").resolve()


def read_env(home: Path) -> dict[str, str]:
    """Return the values of the file; nothing if there is none."""
    return _read(home / "env")


def read_merged(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return ``.env`` of ``folder``, overridden by ``environ`` without what ``fleet env`` exported to it."""
    exported = {EXPORTED, *list_exported(environ)}
    return _read(folder / ".env") | {name: environ[name] for name in environ if name not in exported}


def read_effective(home: Path, environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the settings of the fleet on ``home``: its ports and addresses override the environment."""
    return overlay_running(home, read_env(home) | read_merged(environ, folder))


def overlay_running(home: Path, values: Mapping[str, str]) -> dict[str, str]:
    """Return ``values``, overridden by the ports and addresses of the fleet that runs on ``home``."""
    running = {name: value for name, value in read_env(home).items() if name not in SECRET_NAMES}
    return dict(values) | running


def ensure_secrets(home: Path) -> dict[str, str]:
    """Return the secrets of the fleet; missing ones are generated and stored."""
    stored = {name: value for name, value in read_env(home).items() if name in SECRET_NAMES and value}
    generated = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "CRON_SECRET": secrets.token_urlsafe(32),
        "FLOWER_BASIC_AUTH": f"fleet:{secrets.token_urlsafe(18)}",
    }
    if stored.keys() != generated.keys():
        _write(home, generated | stored)
    return generated | stored


def record_running(home: Path, values: Mapping[str, str]) -> None:
    """Store the settings with which other tools connect to the running fleet."""
    _write(home, ensure_secrets(home) | dict(values))


def record_stopped(home: Path) -> None:
    _write(home, ensure_secrets(home))


def _read(path: Path) -> dict[str, str]:
    """Return the values of a file in ``.env`` form. ``${...}`` is not replaced: a path may contain it."""
    return {
        name: value for name, value in dotenv_values(path, interpolate=False).items() if value is not None
    }


def _write(home: Path, values: Mapping[str, str]) -> None:
    escapes = str.maketrans({"\\": "\\\\", "'": "\\'"})
    lines = [f"{name}='{value.translate(escapes)}'\n" for name, value in sorted(values.items())]
    write_private(home / "env", "".join(lines))
