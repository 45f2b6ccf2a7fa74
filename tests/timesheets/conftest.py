"""The connected company of the tests."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.timesheets.company import Company, connected_company


@pytest.fixture
def company(engine: Engine) -> Iterator[Company]:
    with connected_company(engine) as connected:
        yield connected
