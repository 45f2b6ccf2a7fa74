"""The shop of the tests, whose people get reminders."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.outreach.audience import Audience, audience_of_harbour


@pytest.fixture
def audience(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Audience]:
    with audience_of_harbour(engine, monkeypatch) as one:
        yield one
