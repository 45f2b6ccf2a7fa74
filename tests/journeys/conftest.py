"""A fleet for the journeys: it uses the test servers and its own database."""

from collections.abc import Iterator

import pytest

from services.fleet.embedded.servers import EmbeddedServers
from tests.journeys.journey_fleet import JourneyFleet, wait_for
from tests.journeys.start_fleet import start_journey_fleet


@pytest.fixture(scope="session")
def fleet(
    servers: EmbeddedServers, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JourneyFleet]:
    """Start the processes with three shops that have stock."""
    home = tmp_path_factory.mktemp("journeys home")
    with start_journey_fleet(servers, environment, home, "journeys") as started:
        yield started


@pytest.fixture(autouse=True)
def quiet(fleet: JourneyFleet) -> Iterator[None]:
    """Wait for the work of the previous journey, and remove delays after each one."""
    wait_for(lambda: not fleet.count_open_work(), seconds=90)
    yield
    for shop in fleet.shops:
        fleet.delay_calls(shop, 0.0)
