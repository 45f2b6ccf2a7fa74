"""Two beats on RabbitMQ: the tests of ``tests.jobs.test_two_beats`` with another broker."""

import pytest

from tests.installation.package_servers import RabbitMQ
from tests.jobs.test_two_beats import (
    proxy,
    start,
    test_a_leader_sends_again_over_a_new_connection_when_the_broker_is_back,
    test_a_standby_takes_over_from_a_leader_that_is,
)

__all__ = [
    "proxy",
    "start",
    "test_a_leader_sends_again_over_a_new_connection_when_the_broker_is_back",
    "test_a_standby_takes_over_from_a_leader_that_is",
]


@pytest.fixture
def broker_url(rabbitmq: RabbitMQ, environment: dict[str, str]) -> str:
    """Return RabbitMQ's address in place of Valkey's."""
    return rabbitmq.url
