"""Servers that several modules use."""

from collections.abc import Iterator

import pytest

from tests.installation.package_servers import RabbitMQ


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A RabbitMQ."""
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server
