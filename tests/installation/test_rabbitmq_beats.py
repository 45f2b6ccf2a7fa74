"""Two beats on RabbitMQ: the tests of ``tests.jobs.test_two_beats`` whose fault is one of the broker."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from tests.fakes.tcp_proxy import TcpProxy
from tests.installation.package_servers import RabbitMQ
from tests.jobs import test_two_beats as on_valkey
from tests.jobs.test_two_beats import (
    Beat,
    proxy,
    start,
    test_a_leader_sends_again_over_a_new_connection_when_the_broker_is_back,
)

__all__ = [
    "proxy",
    "start",
    "test_a_leader_sends_again_over_a_new_connection_when_the_broker_is_back",
]


@pytest.fixture
def broker_url(rabbitmq: RabbitMQ, environment: dict[str, str]) -> str:
    """Return RabbitMQ's address in place of Valkey's."""
    return rabbitmq.url


@pytest.mark.parametrize("fault", [name for name in on_valkey.FAULTS if "broker" in name])
def test_a_standby_takes_over_from_a_leader_that_is(
    engine: Engine, start: Callable[[str], Beat], proxy: TcpProxy, fault: str
) -> None:
    on_valkey.test_a_standby_takes_over_from_a_leader_that_is(engine, start, proxy, fault)
