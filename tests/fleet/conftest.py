"""A fleet home for each test, readable for every account."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

IS_ROOT = os.geteuid() == 0


@pytest.fixture
def home() -> Iterator[Path]:
    """A path that does not exist yet, with characters special in URLs, shells and configuration files."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-test-"))
    folder.chmod(0o755)
    yield folder / "it's a fl#e?t %41 home"
    shutil.rmtree(folder, ignore_errors=True)
