"""The clock of the machine, or that of the processes alone, is set ahead and back while a fleet works."""

import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.fleet.embedded import postgres
from services.fleet.embedded.servers import EmbeddedServers
from services.ledger.topics import QUEUES as ALL_QUEUES
from tests.installation.package_servers import need
from tests.journeys.journey_fleet import QUEUES, JourneyFleet, wait_for
from tests.journeys.start_fleet import start_journey_fleet
from tests.journeys.test_alerts import FORGED, sent_about

pytestmark = pytest.mark.timeout(500)
HOUR = 3600
ABSENT = {f"worker:{queue}" for queue in ALL_QUEUES if queue not in QUEUES}
"""Queues without a worker in this fleet."""
JOB = "gap-healing"
"""Is due each hour."""
P1 = "select rule, status from incidents where severity = 'P1' and rule not like 'worker%consuming%'"


class MovedClocks:
    """The clocks of the database's server, and of all other processes, in a folder that they can read."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.library = folder / "moved_clock.so"
        source = Path(__file__).with_name("moved_clock.c")
        options = ("-shared", "-fPIC", "-O2", "-Wall", "-Werror")
        subprocess.run([need("cc"), *options, "-o", self.library, source], check=True)
        self.database, self.processes = folder / "database", folder / "processes"
        for file in (self.database, self.processes):
            file.write_bytes(bytes(8))
            file.chmod(0o644)

    def environment(self, clock: Path) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "MOVED_CLOCK": str(clock)}

    def move(self, seconds: int, *, ahead: int = 0) -> None:
        """Set all clocks to the real time and ``seconds``; ``ahead``: of the database's, for processes."""
        for file, moved_by in ((self.database, seconds), (self.processes, seconds + ahead)):
            with file.open("r+b") as out:
                out.write(struct.pack("q", moved_by))


@pytest.fixture(scope="module")
def clocks() -> Iterator[MovedClocks]:
    with tempfile.TemporaryDirectory() as folder:
        yield MovedClocks(Path(folder))


@pytest.fixture(scope="module")
def fleet(
    clocks: MovedClocks, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JourneyFleet]:
    """A fleet with servers of its own, whose clocks can be set."""
    home = tmp_path_factory.mktemp("clocks")
    (home / "fleet").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in clocks.environment(clocks.database).items():
            patch.setitem(postgres.SERVER_ENV, name, value)
        for name, value in clocks.environment(clocks.processes).items():
            patch.setenv(name, value)
        with (
            EmbeddedServers.start(
                home / "servers", auto_ports=True, durable=False, throwaway=True
            ) as servers,
            start_journey_fleet(servers, environment, home / "fleet", "clocks") as started,
        ):
            yield started


def read_failing(fleet: JourneyFleet) -> set[str]:
    """Return the parts that ``/health`` names, without jobs whose queue has no worker here."""
    answer = httpx.get(f"http://127.0.0.1:{fleet.env['INGRESS_PORT']}/health", timeout=10)
    return {name for name in answer.json()["failing"] if not name.startswith("job:")}


def check_works(fleet: JourneyFleet) -> None:
    """Check that beat, the sweep and the workers work, and that an order is recorded."""
    heard = "select min(at) > now() - interval '40 s' from heartbeats where name = any(:names)"
    names = ["beat", "sweep", *(f"queue:{queue}" for queue in QUEUES)]
    wait_for(lambda: fleet.select(heard, names=names) == [(True,)], seconds=60)
    wait_for(lambda: read_failing(fleet) <= ABSENT, seconds=60)
    order = fleet.sell(fleet.shops[1], fleet.reserve_item(fleet.shops[1]))
    wait_for(lambda: fleet.count_orders([order]), seconds=60)


def check_alert(fleet: JourneyFleet, slug: str) -> None:
    """Check that forged webhooks of a shop are one alert."""
    url = f"http://127.0.0.1:{fleet.env['INGRESS_PORT']}/webhooks/stripe/{slug}"
    for number in range(5):
        assert httpx.post(url, json={"id": f"evt_{number}"}, headers=FORGED).status_code == 401
    wait_for(lambda: sent_about(fleet, slug, "opened") == [("done",)], seconds=120)


def count_runs(fleet: JourneyFleet) -> int:
    return int(fleet.select("select count(*) from job_runs where job = :job", job=JOB)[0][0])


def test_a_machine_whose_clock_is_set_ahead_and_back(fleet: JourneyFleet, clocks: MovedClocks) -> None:
    """celery/celery 3685, 4920 and 6742: beat sent nothing until the old time came again."""
    runs, incidents = count_runs(fleet), fleet.select(P1)
    clocks.move(2 * HOUR)
    check_works(fleet)
    wait_for(lambda: count_runs(fleet) > runs)
    check_alert(fleet, fleet.shops[1].slug)

    runs = count_runs(fleet)
    clocks.move(HOUR)
    check_works(fleet)
    check_alert(fleet, fleet.shops[2].slug)
    assert count_runs(fleet) == runs
    assert fleet.select(P1) == incidents


def test_processes_whose_clock_differs_from_the_databases(fleet: JourneyFleet, clocks: MovedClocks) -> None:
    clocks.move(HOUR, ahead=2 * HOUR)
    wait_for(lambda: fleet.select(P1) == [("clocks_apart", "open")], seconds=60)
    check_works(fleet)

    clocks.move(HOUR)
    wait_for(lambda: fleet.select(P1) == [("clocks_apart", "resolved")], seconds=60)
    check_works(fleet)
