"""A fleet home for each test, readable for every account."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

IS_ROOT = os.geteuid() == 0


def _make_home() -> Iterator[Path]:
    """Yield a path that does not exist yet, with characters special in URLs, shells and configurations."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-test-"))
    folder.chmod(0o755)
    yield folder / "it's a fl#e?t %41 home"
    shutil.rmtree(folder, ignore_errors=True)


home = pytest.fixture(_make_home, name="home")
shared_home = pytest.fixture(_make_home, name="shared_home", scope="module")
"""The home of what the tests of a module start once and do not change."""
