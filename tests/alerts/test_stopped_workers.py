"""A worker that takes no messages is one incident, which names its queues; so are all queues without one."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pytest
from sqlalchemy import Connection, text

from services.alerts.decide import Change
from services.alerts.evaluate import evaluate_rules
from services.alerts.gate import OPEN_FOR, OPENED, open_gate, read_gate
from services.alerts.incidents import find_incidents
from services.alerts.own_figures import collect_heartbeats
from services.alerts.people import list_entries, resolve_by_person
from services.alerts.rules import FIGURE_RULES
from services.ledger.health import CANARY_LIMIT
from services.ledger.heartbeats import record_beat
from services.ledger.sweep import record_heartbeat
from services.ledger.topics import QUEUES
from tests.health.fleet_rows import add_work

NOW = datetime(2026, 11, 28, 7, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
STEP = 30 * SECOND
RULE = "worker_not_consuming"
WORKERS = {
    "webhooks@vm": ("webhooks",),
    "outbound@vm": ("inventory", "email", "sync"),
    "night@vm": ("reconciliation", "reports"),
    "ops@vm": ("ops",),
}
NIGHT = ", ".join(WORKERS["night@vm"])


class FleetClock:
    """Sends canaries and evaluates the rules every 30 s; the workers in ``stopped`` answer nothing."""

    def __init__(self, tx: Connection) -> None:
        self.tx, self.now = tx, NOW
        self.changes: list[tuple[datetime, str, Change]] = []

    def run(
        self,
        time: timedelta,
        *,
        stopped: Collection[str] = (),
        never: Collection[str] = (),
    ) -> None:
        until = self.now + time
        while self.now < until:
            self.now += STEP
            record_beat(self.tx, self.now, is_refused=False)
            record_heartbeat(self.tx, "sweep", self.now)
            for child, (node, queues) in enumerate(WORKERS.items()):
                for queue in queues:
                    if node not in stopped and queue not in never:
                        worker = {"worker": f"{node}:{100 + child + self.now.minute}"}
                        record_heartbeat(self.tx, f"queue:{queue}", self.now, dict(worker))
            figures = {RULE: collect_heartbeats(self.tx, self.now)[RULE]}
            found = evaluate_rules(self.tx, figures, self.now)
            self.changes += [(self.now, one.key.subject, one.change) for one in found]

    def list_open(self) -> dict[str, str]:
        return {one.rule: one.summary.partition(" for ")[0] for one in find_incidents(self.tx, rule=RULE)}


@pytest.fixture
def fleet(tx: Connection) -> FleetClock:
    clock = FleetClock(tx)
    clock.run(5 * MINUTE)
    return clock


def test_a_stopped_worker_of_two_queues_is_one_incident_and_one_opening_of_the_gate(
    fleet: FleetClock,
) -> None:
    fleet.run(5 * MINUTE, stopped=["night@vm"])

    assert fleet.list_open() == {f"{RULE}:night@vm": f"the worker night@vm has taken no message of {NIGHT}"}
    (reason,) = read_gate(fleet.tx, fleet.now).reasons
    assert reason.incident
    open_gate(fleet.tx, reason.incident, now=fleet.now, by="ada", request_id="r", reason="the fix")
    assert read_gate(fleet.tx, fleet.now).reasons == []
    fleet.run(OPEN_FOR - MINUTE, stopped=["night@vm"])
    assert read_gate(fleet.tx, fleet.now).reasons == []
    fleet.run(MINUTE, stopped=["night@vm"])
    assert len(read_gate(fleet.tx, fleet.now).reasons) == 1
    fleet.run(4 * MINUTE)
    assert fleet.list_open() == {}
    assert [entry.kind for entry in list_entries(fleet.tx, 1)] == ["opened", OPENED, "recovered"]


def test_a_person_resolves_it_too_early_and_it_opens_again_after_twice_the_time(fleet: FleetClock) -> None:
    fleet.run(5 * MINUTE, stopped=["night@vm"])
    resolve_by_person(fleet.tx, 1, now=fleet.now, by="ada", request_id="r", reason="restarted")
    fleet.run(MINUTE, stopped=["night@vm"])
    assert fleet.list_open() == {}
    fleet.run(5 * MINUTE, stopped=["night@vm"])

    assert [*fleet.list_open()] == [f"{RULE}:night@vm"]
    assert [entry.kind for entry in list_entries(fleet.tx, 1)] == ["opened", "resolve", "reopened"]


def test_two_stopped_workers_are_two_incidents_and_each_ends_by_itself(fleet: FleetClock) -> None:
    fleet.run(5 * MINUTE, stopped=["night@vm", "outbound@vm"])
    assert [*fleet.list_open()] == [f"{RULE}:outbound@vm", f"{RULE}:night@vm"]

    fleet.run(4 * MINUTE, stopped=["night@vm"])
    assert [*fleet.list_open()] == [f"{RULE}:night@vm"]


def test_a_queue_that_no_process_consumes_is_named_also_while_workers_are_stopped(tx: Connection) -> None:
    fleet = FleetClock(tx)
    fleet.run(5 * MINUTE, never=["email", "ops"])
    assert fleet.list_open() == {RULE: "no worker has ever taken a message of email, ops"}

    fleet.run(5 * MINUTE, never=["email", "ops"], stopped=["night@vm", "webhooks@vm"])
    assert fleet.list_open() == {
        RULE: "no worker has ever taken a message of email, ops",
        f"{RULE}:night@vm": f"the worker night@vm has taken no message of {NIGHT}",
        f"{RULE}:webhooks@vm": "the worker webhooks@vm has taken no message of webhooks",
    }


def test_a_worker_that_ends_one_queue_is_open_until_another_takes_it(fleet: FleetClock) -> None:
    fleet.run(5 * MINUTE, never=["email"])  # it still takes the others
    assert fleet.list_open() == {
        f"{RULE}:outbound@vm": "the worker outbound@vm has taken no message of email"
    }


@pytest.mark.parametrize("busy", ["reconciliation", "reports"])
def test_a_worker_whose_canaries_all_wait_behind_its_work_is_not_down(fleet: FleetClock, busy: str) -> None:
    lease = {"locked_at": fleet.now, "lease_until": fleet.now + 8 * MINUTE}
    add_work(fleet.tx, {"reconciliation": "reconcile", "reports": "retention"}[busy], **lease)
    fleet.run(7 * MINUTE, stopped=["night@vm"])
    assert fleet.list_open() == {}

    fleet.tx.execute(text("update work_queue set lease_until = :at"), {"at": fleet.now})
    fleet.run(3 * MINUTE, stopped=["night@vm"])
    assert [*fleet.list_open()] == [f"{RULE}:night@vm"]


def test_a_busy_worker_that_answers_canaries_of_one_queue_does_not_hide_another(fleet: FleetClock) -> None:
    add_work(fleet.tx, "inventory_push", locked_at=fleet.now, lease_until=fleet.now + 8 * MINUTE)
    fleet.run(6 * MINUTE, never=["email"])

    assert [*fleet.list_open()] == [f"{RULE}:outbound@vm"]


@pytest.mark.parametrize("seed", range(3))
def test_incidents_do_not_flap_and_name_each_queue_that_waits_for_long(tx: Connection, seed: int) -> None:
    random, fleet, rule = Random(seed), FleetClock(tx), FIGURE_RULES[RULE]
    fleet.run(5 * MINUTE)
    for _ in range(12):
        stopped = [node for node in WORKERS if random.random() < 0.4]
        never = [queue for queue in QUEUES if random.random() < 0.2]
        time = random.choice((30 * SECOND, 2 * MINUTE, 5 * MINUTE))
        fleet.run(time, stopped=stopped, never=never)
        if time > CANARY_LIMIT + rule.lasts + MINUTE:
            silent = {q for node in WORKERS for q in WORKERS[node] if node in stopped or q in never}
            named = {
                queue
                for text in fleet.list_open().values()
                for queue in text.partition(" of ")[2].split(", ")
            }
            assert silent <= named

    for node in WORKERS:
        times = [at for at, subject, change in fleet.changes if subject == node and change != "worsened"]
        gaps = [after - before for before, after in pairwise(times)]
        assert all(gap >= min(rule.lasts, rule.clears) for gap in gaps)
