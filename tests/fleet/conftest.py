"""A home for each test that every account can reach, gone afterwards with whatever ran in it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

IS_ROOT = os.geteuid() == 0


@pytest.fixture
def home() -> Iterator[Path]:
    """A path with what URLs, shells and configuration files take for their own, that is not there yet."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-test-"))
    folder.chmod(0o755)
    yield folder / "it's a fl#e?t %41 home"
    shutil.rmtree(folder, ignore_errors=True)
