"""A double of Slack."""

from collections.abc import Iterator

import pytest

from tests.fakes.settings import settings_of
from tests.fakes.web import Web


@pytest.fixture
def web() -> Iterator[Web]:
    """Double of Slack."""
    with Web() as web, settings_of(SLACK_WEBHOOK_URL=f"{web.url}/services/T0/B0/x", ALLOW_PRIVATE_URLS="1"):
        yield web
