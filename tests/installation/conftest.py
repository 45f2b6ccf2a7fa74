"""The order of the tests, and servers that several modules use."""

from collections.abc import Iterator

import pytest

from tests.installation.package_servers import RabbitMQ

LONGEST_FIRST = (
    "test_rabbitmq.py",
    "test_production.py::test_the_page",
    "test_production.py",
    "test_redis.py::test_every_process",
    "test_redis.py",
    "test_every_page.py::test_every_page_has",
    "test_every_page.py",
    "test_pgbouncer.py::test_a_restart",
    "test_pgbouncer.py",
    "test_clock_jumps.py",
    "test_rabbitmq_beats.py",
    "test_seven_alerts.py",
    "test_sentry_unreachable.py",
)
"""Modules from the longest to the shorter ones, and first the longest test of each.

A worker gets its next module two tests before it ends one.
"""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest modules, so that all workers end at the same time."""
    items.sort(key=lambda item: next((n for n, one in enumerate(LONGEST_FIRST) if one in item.nodeid), 99))


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A RabbitMQ."""
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server
