"""A whole fleet on RabbitMQ: faults of the broker under load, its commands, Flower and health."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import httpx
import pytest
from sqlalchemy import text

from services.core.broker_probe import ping
from services.core.clock import utc_now
from services.core.db import transaction
from services.fleet.doctor_broker import check_broker
from services.ledger.topics import QUEUES
from tests.chaos.faults import FAULTS, Fault, Outages
from tests.chaos.fleet import Chaos, open_chaos
from tests.installation.package_servers import RabbitMQ, wait_until

DOWN_SECONDS = 8.0
RECOVER_SECONDS = 180.0
"""Three times the promise."""
WARNING = re.compile(r'"level":"(warning|error|critical)"|Warning')
USUAL = "SecurityWarning"
"""The warning of Celery for root."""
FLEET_FAULTS = [each for each in FAULTS if "broker" not in each.name and "database" not in each.name]
"""Those of the database are the same with any broker: ``tests.journeys`` and ``test_pgbouncer`` have them."""


@pytest.fixture(scope="module")
def chaos(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    """A fleet on it, whose opening webhooks are done."""
    settings = {"BROKER_URL": rabbitmq.url, "FLOWER_BROKER_API": rabbitmq.management_url}
    outages = Outages(broker=DOWN_SECONDS)
    with open_chaos(
        tmp_path_factory.mktemp("fleet") / "home",
        10,
        outages,
        settings,
        recover_within_seconds=RECOVER_SECONDS,
    ) as chaos:
        yield chaos


def read_failing(chaos: Chaos) -> list[str]:
    """Return ``failing`` of the ingress's ``/health``."""
    answer = httpx.get(f"http://127.0.0.1:{chaos.fleet.values['INGRESS_PORT']}/health", timeout=10)
    failing: list[str] = answer.json()["failing"]
    assert answer.status_code == (503 if failing else 200), answer.text
    return failing


def count_alive(moment: datetime) -> int:
    """Return how many of beat, the sweep and the workers worked after ``moment``."""
    with transaction() as tx:
        names = ["beat", "sweep", *(f"queue:{queue}" for queue in QUEUES)]
        query = text("select count(*) from heartbeats where at > :moment and name = any(:names)")
        return int(tx.scalar(query, {"moment": moment, "names": names}) or 0)


def run(chaos: Chaos, *command: str) -> str:
    """Return the output of a command in the fleet's environment."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, **chaos.fleet.values},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask_flower(chaos: Chaos, path: str) -> httpx.Response:
    """Return Flower's response."""
    values = chaos.fleet.values
    user, _, password = values["FLOWER_BASIC_AUTH"].partition(":")
    url = f"http://127.0.0.1:{values['FLOWER_PORT']}{path}"
    return httpx.get(url, auth=(user, password), timeout=30).raise_for_status()


def test_no_process_warns_at_its_start(chaos: Chaos) -> None:
    warnings = [line for line in chaos.log_at_start.splitlines() if WARNING.search(line)]

    assert [line for line in warnings if USUAL not in line] == []


def stop(rabbitmq: RabbitMQ, meanwhile: Callable[[], None]) -> None:
    rabbitmq.stop()
    meanwhile()
    rabbitmq.start()


def kill(rabbitmq: RabbitMQ, meanwhile: Callable[[], None]) -> None:
    rabbitmq.stop(signal.SIGKILL)
    meanwhile()
    rabbitmq.start()


def freeze(rabbitmq: RabbitMQ, meanwhile: Callable[[], None]) -> None:
    rabbitmq.signal(signal.SIGSTOP)
    meanwhile()
    rabbitmq.signal(signal.SIGCONT)


def run_out_of_memory(rabbitmq: RabbitMQ, meanwhile: Callable[[], None]) -> None:
    """RabbitMQ's alarm: it accepts connections and takes no message."""
    rabbitmq.control("set_vm_memory_high_watermark", "0.00001")
    meanwhile()
    rabbitmq.control("set_vm_memory_high_watermark", "0.4")


@pytest.mark.parametrize("fault", [stop, kill, freeze, run_out_of_memory])
def test_after_a_fault_under_load_nothing_is_lost_and_everything_works_again(
    chaos: Chaos, rabbitmq: RabbitMQ, fault: Callable[[RabbitMQ, Callable[[], None]], None]
) -> None:
    over_at = []

    def meanwhile() -> None:
        wait_until(lambda: read_failing(chaos) == ["broker"], "the broker is failing")
        time.sleep(DOWN_SECONDS)
        assert read_failing(chaos) == ["broker"]

    def inject(*_: object) -> None:
        fault(rabbitmq, meanwhile)
        over_at.append(utc_now())

    outcome = chaos.run_fault(Fault(fault.__name__, inject, keeps_workers=True))

    assert outcome.failed == []
    assert (outcome.lost, outcome.applied_twice) == (0, 0)
    assert outcome.acknowledged > 0
    wait_until(lambda: count_alive(over_at[0]) == len(QUEUES) + 2, "beat, sweep and workers", RECOVER_SECONDS)
    wait_until(lambda: read_failing(chaos) == [], "health is ok", RECOVER_SECONDS)
    since = f"{over_at[0]:%Y-%m-%d %H:%M}"
    wait_until(
        lambda: ask_flower(chaos, f"/api/tasks?limit=1&received_start={since}").json(),
        "Flower shows new tasks",
        RECOVER_SECONDS,
    )


def test_a_worker_outlives_a_broker_that_refuses_its_queue(chaos: Chaos, rabbitmq: RabbitMQ) -> None:
    """RabbitMQ refuses a queue of another type, and for a moment each queue of a node that was killed."""
    queue = f"{rabbitmq.management_url}queues/fleet/email"
    other_type = {"durable": True, "arguments": {"x-queue-type": "classic"}}

    def replace_queue() -> bool:
        httpx.delete(queue)
        return httpx.put(queue, json=other_type).is_success  # not if a process declared its own first

    def inject(*_: object) -> None:
        log = chaos.fleet.home / "fleet.log"
        before = log.stat().st_size
        wait_until(replace_queue, "the queue of another type")
        wait_until(lambda: b"PRECONDITION_FAILED" in log.read_bytes()[before:], "the refusal")
        httpx.delete(queue).raise_for_status()

    outcome = chaos.run_fault(Fault("queue refused", inject, keeps_workers=True))

    assert outcome.failed == []
    assert (outcome.lost, outcome.applied_twice) == (0, 0)


@pytest.mark.parametrize("fault", FLEET_FAULTS, ids=lambda fault: fault.name)
def test_after_a_fault_of_the_fleet_redelivered_messages_repeat_nothing(chaos: Chaos, fault: Fault) -> None:
    outcome = chaos.run_fault(fault)

    assert outcome.failed == []
    assert (outcome.lost, outcome.applied_twice) == (0, 0)


def test_commands_read_the_broker(chaos: Chaos) -> None:
    backlog = json.loads(run(chaos, "celery", "-A", "tasks", "backlog", "--json"))
    doctor = json.loads(run(chaos, "services.cli.main", "doctor", "--json"))

    assert {line["queue"]: line["messages"] is not None for line in backlog["queues"]} == dict.fromkeys(
        QUEUES, True
    )
    assert "4 nodes online" in run(chaos, "celery", "-A", "tasks", "inspect", "ping")
    seen = {line["check"]: line["ok"] for line in doctor}
    assert seen["broker"]
    assert seen["flower"]


def test_flower_shows_the_queues_by_the_management_api(chaos: Chaos) -> None:
    def read_page() -> str:
        return ask_flower(chaos, "/broker").text

    assert [queue for queue in QUEUES if f">{queue}<" not in read_page()] == []
    # Without the API there is only the number of messages; RabbitMQ has the others after some seconds.
    wait_until(lambda: read_page().count("&mdash;") < 4 * len(QUEUES), "figures of the management API")


def test_a_memory_alarm_is_a_fault_although_the_broker_answers(rabbitmq: RabbitMQ) -> None:
    rabbitmq.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        wait_until(lambda: ping(1.0, rabbitmq.url) is None, "the alarm")
        (fault,) = check_broker(rabbitmq.url)
    finally:
        rabbitmq.control("set_vm_memory_high_watermark", "0.4")

    assert "takes no message" in fault.seen
    assert "rabbitmqctl list_alarms" in fault.remedy
    wait_until(lambda: ping(1.0, rabbitmq.url) is not None, "the end of the alarm")


@pytest.mark.usefixtures("chaos")
def test_broker_has_the_quorum_queues_of_the_fleet_and_no_others(rabbitmq: RabbitMQ) -> None:
    queues = httpx.get(f"{rabbitmq.management_url}queues/fleet").json()

    assert {queue["name"]: queue["type"] for queue in queues if queue["durable"]} == dict.fromkeys(
        QUEUES, "quorum"
    )
