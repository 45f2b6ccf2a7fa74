"""A whole fleet with the Redis of Debian's packages: failovers by Sentinels, under webhooks."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from services.core import broker_probe
from services.core.sentinel import parse_sentinel_url
from services.core.sentinel_client import SentinelClient, find_address
from services.core.settings import get_settings
from services.fleet.doctor_broker import check_broker
from services.fleet.process_list import WORKERS
from services.fleet.up import RunningFleet
from tests.chaos.faults import Fault, Outages
from tests.chaos.fleet import Chaos, open_chaos
from tests.installation.package_servers import Redis, Sentinel, make_certificate, wait_until

pytestmark = pytest.mark.timeout(900)
PER_SECOND = 20.0
WORKS_SECONDS = 180.0
"""Three times the promise."""


class RedisGroup:
    """A master, its replica and three Sentinels."""

    def __init__(self, home: Path) -> None:
        master = Redis(home / "one")
        self.servers = [master, Redis(home / "two", master)]
        self.sentinels = [Sentinel(home / f"sentinel-{number}", master) for number in range(3)]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        login = f":{Redis.password}@{hosts}/0"
        return f"sentinel://{login}?master=fleet&sentinel_password={Sentinel.password}"

    def find_master(self) -> Redis:
        """Return the server that the Sentinels name; the other one is its replica."""
        client = redis.Redis(port=self.sentinels[-1].port, password=Sentinel.password, decode_responses=True)
        with client:
            port = int(client.sentinel_master("fleet")["port"])
        return next(server for server in self.servers if server.port == port)

    def is_replicated(self) -> bool:
        """Return whether the current master has its replica, so that another failover is possible."""
        with redis.Redis.from_url(self.find_master().url) as client:
            return bool(client.info("replication")["connected_slaves"])

    def fail_over(self, end_master: Callable[[Redis], None]) -> Callable[[RunningFleet, Outages], None]:
        """Return a fault: end the master, and wait until the Sentinels name the other server."""

        def inject(_fleet: RunningFleet, _outages: Outages) -> None:
            master = self.find_master()
            end_master(master)
            wait_until(lambda: self.find_master() is not master, "another master")

        return inject


@contextmanager
def open_group(home: Path) -> Iterator[RedisGroup]:
    group = RedisGroup(home)
    with ExitStack() as stack:
        for server in (*group.servers, *group.sentinels):
            stack.enter_context(server)
        wait_until(group.is_replicated, "a replica")
        yield group


def count_events() -> float:
    """Return how many events of tasks Flower received; the sweep runs every 2 s."""
    lines = httpx.get(f"http://127.0.0.1:{get_settings().flower_port}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("flower_events_total{"))


def run_celery(*arguments: str) -> str:
    """Return the output of ``celery -A tasks`` with the environment of the fleet, also if it fails."""
    command = [sys.executable, "-m", "celery", "-A", "tasks", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def read_what_is_shown() -> str:
    """Return what commands and Flower show of the broker and of the settings of workers."""
    commands = (("inspect", "stats"), ("inspect", "conf"), ("report",), ("backlog", "--json"))
    shown = [run_celery(*command) for command in commands]
    assert all(shown), shown
    doctor = [sys.executable, "-m", "services.cli.main", "doctor"]
    shown.append(subprocess.run(doctor, check=False, capture_output=True, text=True).stdout)
    settings = get_settings()
    user, _, password = settings.flower_basic_auth.partition(":")
    with httpx.Client(base_url=f"http://127.0.0.1:{settings.flower_port}", auth=(user, password)) as flower:
        nodes = list(flower.get("/api/workers", params={"refresh": "1"}).json())
        assert len(nodes) == len(WORKERS)
        pages = [flower.get(page) for page in ("/broker", *(f"/worker/{node}" for node in nodes))]
    assert {page.status_code for page in pages} == {200}
    return "\n".join([*shown, *(page.text for page in pages)])


def check_nothing_is_lost(chaos: Chaos, fault: Fault) -> None:
    """Run ``fault`` under webhooks; nothing is lost or done twice."""
    outcome = chaos.run_fault(fault)
    assert not outcome.failed
    assert outcome.acknowledged > 0
    assert (outcome.lost, outcome.applied_twice) == (0, 0)


def check_works(chaos: Chaos, fault: Fault) -> None:
    """Run ``fault`` of the broker: nothing is lost or done twice, and every process works again."""
    check_nothing_is_lost(chaos, fault)
    settings = get_settings()
    health = f"http://127.0.0.1:{settings.ingress_port}/health"
    wait_until(lambda: httpx.get(health).json()["failing"] == [], "health", WORKS_SECONDS)
    nodes = f"{len(WORKERS)} nodes online"
    wait_until(lambda: nodes in run_celery("inspect", "ping"), "every worker answers", WORKS_SECONDS)
    seen = count_events()
    wait_until(lambda: count_events() > seen, "Flower sees events", WORKS_SECONDS)
    user, _, password = settings.flower_basic_auth.partition(":")
    queues = f"http://127.0.0.1:{settings.flower_port}/api/queues/length"
    assert len(httpx.get(queues, auth=(user, password)).json()["active_queues"]) > 1


def test_every_process_follows_the_sentinels_to_another_master(tmp_path: Path) -> None:
    with (
        open_group(tmp_path / "group") as group,
        open_chaos(tmp_path / "fleet", PER_SECOND, Outages(), {"BROKER_URL": group.url}) as chaos,
    ):
        killed = group.find_master()
        kill = group.fail_over(lambda master: master.stop(signal.SIGKILL))
        check_works(chaos, Fault("master killed", kill, keeps_workers=True))
        killed.start()
        wait_until(group.is_replicated, "the former master is a replica")

        frozen = group.find_master()
        freeze = group.fail_over(lambda master: master.signal(signal.SIGSTOP))
        check_works(chaos, Fault("master frozen", freeze, keeps_workers=True))
        frozen.signal(signal.SIGCONT)
        wait_until(group.is_replicated, "the former master is a replica")

        # The first one of the URL, which every process asks first.
        stop = lambda *_: group.sentinels[0].signal(signal.SIGSTOP)  # noqa: E731
        check_works(chaos, Fault("sentinel frozen", stop, keeps_workers=True))
        shown = (tmp_path / "fleet" / "fleet.log").read_text() + read_what_is_shown()
        assert "sentinel://" in shown
        assert Redis.password not in shown
        assert Sentinel.password not in shown


def find_sentinel_faults(url: str) -> str:
    """Return what `fleet doctor` finds about the Sentinels; empty if all is well."""
    (finding,) = [finding for finding in check_broker(url) if finding.check == "sentinels"]
    assert Redis.password not in finding.seen
    assert Sentinel.password not in finding.seen
    return "" if finding.ok else finding.seen


def test_doctor_names_what_would_prevent_a_failover(tmp_path: Path) -> None:
    with open_group(tmp_path / "group") as group:
        first, second, third = (f"127.0.0.1:{sentinel.port}" for sentinel in group.sentinels)
        wait_until(lambda: not find_sentinel_faults(group.url), "no fault is found")
        assert [finding.ok for finding in check_broker(group.url)] == [True, True, True]

        alone = group.url.replace(f",{second},{third}", "")
        assert find_sentinel_faults(alone).endswith("BROKER_URL names 1 of 3")
        assert (
            "no such master"
            in find_sentinel_faults(group.url.replace("master=fleet", "master=other")).lower()
        )
        wrong_login = find_sentinel_faults(group.url.replace(Sentinel.password, "wrong"))
        assert all(f"{address}: " in wrong_login for address in (first, second, third))
        assert "0 of 3 know" in wrong_login

        url = parse_sentinel_url(group.url)
        group.sentinels[0].signal(signal.SIGSTOP)
        for _ in range(2):  # the first client waits for the frozen one, the second asks another first
            client = SentinelClient(url, 5.0)
            asked_first = find_address(client.sentinels[0])
            assert client.discover_master("fleet") == ("127.0.0.1", group.servers[0].port)
        assert asked_first in url.sentinels[1:]
        group.sentinels[0].signal(signal.SIGCONT)

        group.sentinels[1].stop(signal.SIGKILL)
        assert f"{second}: " in find_sentinel_faults(group.url)
        assert "2 of 3 know the master 'fleet'" in find_sentinel_faults(group.url)

        group.servers[1].stop(signal.SIGKILL)
        with redis.Redis.from_url(group.find_master().url) as master:
            master.config_set("maxmemory-policy", "allkeys-lru")
        policy = {finding.check: finding.ok for finding in check_broker(group.url)}["broker policy"]
        assert policy is False


def test_sentinels_and_their_master_are_reached_with_tls(tmp_path: Path) -> None:
    tls = make_certificate(tmp_path)
    with (
        Redis(tmp_path / "redis", tls=tls) as master,
        Sentinel(tmp_path / "sentinel", master, quorum=1) as sentinel,
    ):
        host = f"127.0.0.1:{sentinel.port}"
        plain = f"sentinel://:{Redis.password}@{host}/0?master=fleet&sentinel_password={Sentinel.password}"
        trusted = f"{plain}&ssl_ca_certs={tls['tls-ca-cert-file']}"
        wait_until(lambda: broker_probe.ping(2.0, trusted) is not None, "the master answers")
        assert broker_probe.ping(2.0, f"{plain}&ssl_cert_reqs=none&ssl_check_hostname=false") is not None
        assert broker_probe.ping(2.0, f"{plain}&ssl_cert_reqs=required") is None
        assert broker_probe.ping(2.0, plain) is None
        redis_url = master.url.replace("redis://", "rediss://")
        assert broker_probe.ping(2.0, f"{redis_url}?ssl_ca_certs={tls['tls-ca-cert-file']}") is not None
        assert broker_probe.ping(2.0, redis_url) is None
