"""Which components count as missing. Pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.ledger.components import describe_components_down
from services.ledger.health import Health, classify_health, describe_health, list_components_down
from services.ledger.topics import QUEUES

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
NAMES = ("beat", "sweep", *(f"queue:{queue}" for queue in QUEUES))


def healthy_stats(**late: timedelta | None) -> Health:
    """Return the figures of a healthy fleet, except the heartbeats in ``late`` (None: never)."""
    beats = {name: NOW - timedelta(seconds=3) for name in NAMES}
    for given, age in late.items():
        name = given.replace("__", ":")
        if age is None:
            del beats[name]
        else:
            beats[name] = NOW - age
    return Health(database_latency_ms=0.4, broker_latency_ms=0.3, heartbeats=beats, conditions={})


def test_nothing_is_missing_in_a_healthy_fleet() -> None:
    health = healthy_stats()

    assert list_components_down(health, NOW) == []
    assert describe_health(health, NOW)["status"] == "ok"


@pytest.mark.parametrize(
    ("late", "missing"),
    [
        ({"beat": timedelta(seconds=31)}, ["beat"]),
        ({"beat": timedelta(seconds=30)}, []),
        ({"sweep": timedelta(seconds=31)}, ["sweep"]),
        ({"queue__inventory": timedelta(seconds=91)}, ["worker:inventory"]),
        ({"queue__inventory": timedelta(seconds=90)}, []),
        ({"queue__ops": None, "sweep": None}, ["sweep", "worker:ops"]),
        ({"beat": timedelta(days=-365)}, ["beat"]),
        ({"queue__inventory": timedelta(seconds=-91)}, ["worker:inventory"]),
        ({"sweep": timedelta(seconds=-5)}, []),
    ],
)
def test_a_silence_longer_than_its_limit_is_named(
    late: dict[str, timedelta | None], missing: list[str]
) -> None:
    assert list_components_down(healthy_stats(**late), NOW) == missing


@pytest.mark.parametrize("down", [timedelta(minutes=3), timedelta(hours=3)])
def test_a_beat_that_sends_nothing_is_named_and_not_those_who_wait_for_its_messages(down: timedelta) -> None:
    quiet = healthy_stats(**{name.replace(":", "__"): down for name in NAMES})

    assert list_components_down(quiet, NOW) == ["beat"]
    assert list_components_down(replace(quiet, sending_since=NOW - down * 2), NOW) == ["beat"]


def test_a_broker_that_takes_no_message_of_beat_is_named_and_not_beat() -> None:
    quiet = healthy_stats(**{name.replace(":", "__"): timedelta(minutes=3) for name in NAMES})

    assert list_components_down(replace(quiet, refused_at=NOW - timedelta(seconds=5)), NOW) == ["broker"]
    assert list_components_down(replace(quiet, refused_at=NOW - timedelta(seconds=31)), NOW) == ["beat"]


def test_a_worker_that_was_late_before_beat_stopped_is_named_too() -> None:
    health = healthy_stats(
        beat=timedelta(minutes=3), queue__email=timedelta(minutes=5), queue__sync=timedelta(minutes=4)
    )

    assert list_components_down(health, NOW) == ["beat", "worker:email"]


@pytest.mark.parametrize(
    ("seconds", "missing"), [(1, []), (30, []), (31, ["sweep"]), (91, ["sweep", "worker:email"])]
)
def test_once_beat_sends_again_each_component_has_its_whole_limit(seconds: int, missing: list[str]) -> None:
    late = healthy_stats(sweep=timedelta(minutes=9), queue__email=timedelta(minutes=9))

    assert list_components_down(replace(late, sending_since=NOW - timedelta(seconds=seconds)), NOW) == missing


def test_a_fleet_that_never_ran_misses_beat_and_then_the_components_that_never_answered() -> None:
    health = Health(database_latency_ms=0.4, broker_latency_ms=0.3)

    assert list_components_down(health, NOW) == ["beat"]
    sent = replace(health, heartbeats={"beat": NOW}, sending_since=NOW)
    assert list_components_down(sent, NOW) == ["sweep", *(f"worker:{queue}" for queue in QUEUES)]


def test_without_the_database_nothing_else_is_reported() -> None:
    health = Health(broker_latency_ms=0.3)

    assert list_components_down(health, NOW) == ["database"]
    assert classify_health(health, NOW) == ("unavailable", True, ["database"])


def test_without_the_broker_workers_are_not_missing() -> None:
    late = healthy_stats(queue__email=timedelta(minutes=5))
    health = Health(database_latency_ms=0.4, heartbeats=late.heartbeats)

    assert list_components_down(health, NOW) == ["broker"]
    assert classify_health(replace(health, conditions={}), NOW) == ("down", True, ["broker"])


def test_an_age_is_never_below_zero_when_clocks_differ() -> None:
    health = healthy_stats(beat=timedelta(seconds=-4))

    assert describe_health(health, NOW)["beat"] == {"age_seconds": 0.0}


def test_a_worker_that_stopped_answering_is_named_with_its_process() -> None:
    late = healthy_stats(queue__email=timedelta(minutes=5))
    health = replace(late, broker_latency_ms=None, workers={"email": "vm:12"})

    assert describe_components_down(health, NOW) == {
        "worker:email": "no worker has answered on the queue email for 5m 00s; the last was vm:12: if it "
        "still runs, it hangs: restart it"
    }
    never = replace(health, heartbeats={k: v for k, v in health.heartbeats.items() if k != "queue:email"})
    assert "so far" in describe_components_down(replace(never, workers={}), NOW)["worker:email"]
    assert [*describe_components_down(health, NOW, is_broker_up=False)] == ["broker"]
