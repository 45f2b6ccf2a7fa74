"""``FLEET_HOME/env``, in the form of ``.env``: a running fleet's settings for other tools, and its secrets.

When the fleet stops, only the secrets stay.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from services.fleet.embedded.state import write_private

LASTING = ("SECRET_KEY", "CRON_SECRET", "FLOWER_BASIC_AUTH")


def find_home() -> Path:
    """Return the folder of the embedded fleet: FLEET_HOME of the environment or ``.env``, or ``./.fleet``."""
    return Path(read_merged(os.environ, Path.cwd()).get("FLEET_HOME") or ".fleet").resolve()


def read_env(home: Path) -> dict[str, str]:
    """Return the values of the file; nothing if there is none."""
    return _read(home / "env")


def read_merged(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the environment over ``.env`` in ``folder``, as the settings see them."""
    return _read(folder / ".env") | dict(environ)


def read_effective(home: Path, environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the settings of the fleet on ``home``: its own ports and addresses win, else the environment."""
    stated = read_env(home)
    running = {name: value for name, value in stated.items() if name not in LASTING}
    return stated | read_merged(environ, folder) | running


def ensure_secrets(home: Path) -> dict[str, str]:
    """Return the generated secrets; the first start makes them and later ones keep them."""
    kept = {name: value for name, value in read_env(home).items() if name in LASTING and value}
    made = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "CRON_SECRET": secrets.token_urlsafe(32),
        "FLOWER_BASIC_AUTH": f"fleet:{secrets.token_urlsafe(18)}",
    }
    if kept.keys() != made.keys():
        _write(home, made | kept)
    return made | kept


def record_running(home: Path, values: Mapping[str, str]) -> None:
    """Add the settings that other tools need to join the running fleet."""
    _write(home, ensure_secrets(home) | dict(values))


def record_stopped(home: Path) -> None:
    _write(home, ensure_secrets(home))


def _read(path: Path) -> dict[str, str]:
    """Return the values of a file in ``.env`` form. ``${...}`` is text here: a path may hold it."""
    return {
        name: value for name, value in dotenv_values(path, interpolate=False).items() if value is not None
    }


def _write(home: Path, values: Mapping[str, str]) -> None:
    escapes = str.maketrans({"\\": "\\\\", "'": "\\'"})
    lines = [f"{name}='{value.translate(escapes)}'\n" for name, value in sorted(values.items())]
    write_private(home / "env", "".join(lines))
