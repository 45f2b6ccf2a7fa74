"""Files of the embedded servers: the lock, the passwords, the logs, and the folder of their data.

All of it is in ``FLEET_HOME``, the data in ``servers``. Only if this process is root and the servers' account
cannot reach ``FLEET_HOME``, the data is in ``/var/tmp`` and the file ``servers-at`` names the folder. The
permissions of folders that existed before are never changed.
"""

import fcntl
import hashlib
import json
import os
import pwd
import secrets
import shutil
import signal
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.fleet.child import OsAccount
from services.fleet.errors import AlreadyRunning, FleetError

_FALLBACK_FOLDER = Path("/var/tmp")  # noqa: S108 - only a folder that this user owns is used in it
_NOTE = "servers-at"
_THROWAWAY = "throwaway"
PASSWORDS = "servers.json"


class HomeLock:
    """Locks ``FLEET_HOME`` for this process. The lock ends with the process."""

    def __init__(self, home: Path) -> None:
        """Take the lock, or raise ``AlreadyRunning`` with the process that has it."""
        try:
            make_folder(home, 0o711 if os.geteuid() == 0 else 0o700)
            self._fd = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except PermissionError as error:
            raise FleetError(
                f"{home} belongs to another user: set FLEET_HOME to another folder, "
                f"or start as its owner ({error.strerror})"
            ) from None
        except OSError as error:
            raise FleetError(
                f"{home} cannot be made or used ({error.strerror}): set FLEET_HOME to a folder of this user"
            ) from None
        for _ in range(10):  # half a second, because ``find_owner`` holds the lock for a moment
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        else:
            pid = _read_pid(self._fd)
            os.close(self._fd)
            raise AlreadyRunning(
                f"a fleet is already running on {home} (pid {pid}): "
                "stop it first, or set FLEET_HOME to another folder"
            )
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Unlock the home, and remove the process id from the lock file."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def _read_pid(fd: int) -> int:
    raw = os.pread(fd, 32, 0)
    return int(raw) if raw.isdigit() else 0


def find_owner(home: Path) -> int | None:
    """Return the process id of the fleet that runs on ``home``, or None."""
    try:
        fd = os.open(home / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise FleetError(f"{home} belongs to another user: run as that user, or set FLEET_HOME") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(fd)
    else:
        return None
    finally:
        os.close(fd)


def make_folder(path: Path, mode: int, account: OsAccount | None = None) -> Path:
    """Return ``path``; create it with ``mode`` (and ``account`` as owner) if it does not exist."""
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
        if account is not None:
            os.chown(path, account.uid, account.gid)
        path.chmod(mode)
    return path


def close_folders(home: Path) -> None:
    """Make the folders of ``home`` with mails, archives and logs readable by their owner only."""
    for name in ("archive", "logs", "mail"):
        if (home / name).is_dir():
            (home / name).chmod(0o700)


def write_private(path: Path, text: str, account: OsAccount | None = None) -> None:
    """Write ``text`` to ``path`` in one step, readable by its owner only."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        if account is not None:
            os.fchown(fd, account.uid, account.gid)
    fresh.replace(path)


def find_account(home: Path) -> OsAccount | None:
    """Return the servers' account if this process is root, which PostgreSQL refuses; else None.

    It is the owner of ``home`` if that is not root, so that data made with ``sudo`` in a user's checkout
    belongs to that user; else ``nobody``.
    """
    if os.geteuid() != 0:
        return None
    uid = home.stat().st_uid
    entry = pwd.getpwuid(uid) if uid else pwd.getpwnam("nobody")
    return OsAccount(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_reach(path: Path, account: OsAccount | None) -> bool:
    """Return whether ``account`` may pass through every folder down to ``path`` and read it."""
    if account is None:
        return os.access(path, os.R_OK | os.X_OK)
    for step in (path, *path.parents):
        status = step.stat()
        shift = 6 if status.st_uid == account.uid else 3 if status.st_gid == account.gid else 0
        if not (status.st_mode >> shift) & stat.S_IXOTH:
            return False
    return True


def choose_area(home: Path, account: OsAccount | None, *, throwaway: bool = False) -> Path:
    """Return the folder for the servers' data, which ``account`` can reach; create it if it is missing.

    A ``throwaway`` folder in ``/var/tmp`` is marked: a later start removes it if this process is killed.
    """
    note = home / _NOTE
    if account is None or (can_reach(home, account) and not note.exists()):
        return make_folder(home / "servers", 0o700 if account is None else 0o711)
    if note.exists():
        area = _read_area(note)
    else:
        area = _FALLBACK_FOLDER / f"shopfleet-{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"
        _remove_abandoned_areas()
        if _is_own_folder(area):
            _remove_area(area)  # its home and the passwords were removed
    make_folder(area, 0o711)
    if not _is_own_folder(area):
        raise FleetError(f"{area} belongs to another user: remove it, or set FLEET_HOME to another folder")
    write_private(
        note,
        f"{area}\nThe servers' data is there because the account {account.name} cannot reach {home}.\n",
    )
    if throwaway:
        write_private(area / _THROWAWAY, f"{home}\n")
    return area


def _is_own_folder(area: Path) -> bool:
    """Return whether this user owns the folder ``area``: in ``/var/tmp`` others may have created it."""
    try:
        status = area.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _remove_abandoned_areas() -> None:
    """Remove throwaway areas whose fleet was killed: their home is not locked."""
    for area in _FALLBACK_FOLDER.glob("shopfleet-*"):
        marker = area / _THROWAWAY
        if _is_own_folder(area) and marker.is_file():
            home = Path(marker.read_text(encoding="utf-8").rstrip("\n"))
            if find_owner(home) is None:
                _remove_area(area)


def _remove_area(area: Path) -> None:
    end_servers(area)
    shutil.rmtree(area, ignore_errors=True)


def remove_data(home: Path) -> None:
    """End the servers of ``home``; remove their data, their passwords and the note."""
    note = home / _NOTE
    area = _read_area(note) if note.exists() else home / "servers"
    if _is_own_folder(area):
        _remove_area(area)
    for path in (note, home / PASSWORDS):
        path.unlink(missing_ok=True)


def _read_area(note: Path) -> Path:
    return Path(note.read_text(encoding="utf-8").splitlines()[0])


def get_passwords(home: Path) -> dict[str, str]:
    """Return the servers' passwords, kept in ``servers.json`` (mode 600); missing ones are generated."""
    path = home / PASSWORDS
    stored: Any = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    generated = {role: secrets.token_urlsafe(24) for role in ("admin", "owner", "app", "archive", "broker")}
    passwords = generated | {str(role): str(password) for role, password in stored.items()}
    if passwords != stored:
        write_private(path, json.dumps(passwords, indent=1) + "\n")
    return passwords


def tail(path: Path) -> str:
    """Return the last five lines of a log, for the error of a server that did not start."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-5:])


def open_log(home: Path, name: str) -> Path:
    """Return the path of a server's log; rename one larger than 10 MB first."""
    path = make_folder(home / "logs", 0o700) / f"{name}.log"
    if path.exists() and path.stat().st_size > 10_000_000:
        path.replace(path.with_suffix(".log.1"))
    return path


def end_servers(folder: Path) -> None:
    """End servers in or below ``folder``, found by name: a pid file may name another process."""
    root = folder.resolve()

    def is_server(info: dict[str, Any]) -> bool:
        is_named = info["name"] in ("postgres", "valkey-server")
        return is_named and Path(info["cwd"] or "/").is_relative_to(root)

    _end_processes(is_server, signal.SIGINT)


def end_orphans(home: Path) -> None:
    """End processes of a fleet on ``home`` whose supervisor and reaper were killed, found by environment."""

    def is_orphan(info: dict[str, Any]) -> bool:
        environ = info["environ"] or {}
        return bool(environ.get("FLEET_PROCESS")) and environ.get("FLEET_HOME") == str(home)

    _end_processes(is_orphan, signal.SIGTERM)


def _end_processes(is_wanted: Callable[[dict[str, Any]], bool], stop_signal: int) -> None:
    """Stop other processes (and with them their children), by force after 5 s."""
    import psutil

    processes = psutil.process_iter(["name", "cwd", "environ"])
    found = [process for process in processes if process.pid != os.getpid() and is_wanted(process.info)]
    pids = {process.pid for process in found}
    for process in found:
        with suppress(psutil.NoSuchProcess):
            if process.ppid() not in pids:
                process.send_signal(stop_signal)
    _, stuck = psutil.wait_procs(found, timeout=5)
    for process in stuck:
        process.kill()
    psutil.wait_procs(stuck, timeout=5)
