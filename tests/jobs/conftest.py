"""Two shops in two zones with two jobs."""

import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.jobs.job_commands import LONG_AGO, NIGHTLY, WEEKLY
from tests.jobs.job_rows import add_jobs, add_shops


@pytest.fixture
def shops(engine: Engine) -> Iterator[None]:
    """Two shops in two zones and two jobs; restores the logging."""
    add_shops(engine, LONG_AGO, west="America/Los_Angeles", east="Asia/Tokyo")
    add_jobs(engine, LONG_AGO, NIGHTLY, WEEKLY)
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.captureWarnings(capture=False)
