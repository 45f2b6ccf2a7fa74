"""The sandbox's Quo answers our client in the form of the samples, with the limit of a key."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.core.errors import Deferred, Misconfigured, Refused, RetryLater
from services.providers.quo_api import NOT_FOUND, Quo
from services.sandbox.serve import SandboxServer

SAMPLES = Path(__file__).parents[3] / "shared/samples/openphone/api_2026-03-30"
KEY = "quo-acme"
SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)
CALL = json.loads((SAMPLES / "list_calls.json").read_text())["data"][0]


@pytest.fixture
def quo(server: SandboxServer) -> Quo:
    return Quo(f"{server.url}/quo", KEY)


def control(server: SandboxServer, **request: Any) -> None:
    httpx.post(f"{server.url}/_control", json={"quo_key": KEY, **request}).raise_for_status()


def call(number: int, day: int, **more: Any) -> dict[str, Any]:
    return {**CALL, "id": f"AC{number}", "createdAt": f"2026-11-{day:02}T12:00:00Z", **more}


def test_calls_of_a_window_are_listed_newest_first_over_pages(server: SandboxServer, quo: Quo) -> None:
    control(server, calls=[call(number, number % 28 + 1) for number in range(120)])
    found = [one["createdAt"] for one in quo.list_calls(SINCE, UNTIL)]
    assert found == sorted(found, reverse=True)
    assert len(found) == sum(number % 28 < 20 for number in range(120))
    assert httpx.get(f"{server.url}/_control").json()["quo"][KEY] == {"requests": 2}


def test_a_call_has_the_form_of_the_sample_and_its_parts_are_lists(server: SandboxServer, quo: Quo) -> None:
    recordings = [
        {"id": "CR2", "startTime": "2026-11-02T12:05:00Z"},
        {"id": "CR1", "startTime": "2026-11-02T12:00:00Z"},
    ]
    transcripts = [{"recordingId": "CR1", "status": "completed", "dialogue": []}]
    control(server, calls=[call(1, 2, recordings=recordings, transcripts=transcripts)], limit=100)
    assert set(quo.fetch_call("AC1")) == set(CALL)
    assert [one["id"] for one in quo.list_recordings("AC1")] == ["CR1", "CR2"]
    assert quo.list_transcripts("AC1") == transcripts
    control(server, calls=[call(2, 3)])
    assert quo.list_recordings("AC2") == []


def test_messages_conversations_numbers_and_contacts_are_read(server: SandboxServer, quo: Quo) -> None:
    control(
        server, messages=[{"id": "AC9", "createdAt": "2026-11-02T12:00:00.500Z", "text": "Hi"}],
        conversations=[{"id": "CN1"}], phone_numbers=[{"id": "PN1"}], contacts=[{"id": "CT1"}],
    )  # fmt: skip
    assert [one["id"] for one in quo.list_messages(SINCE, UNTIL)] == ["AC9"]
    assert quo.fetch_message("AC9")["text"] == "Hi"
    assert [one["id"] for one in quo.list_conversations()] == ["CN1"]
    assert [one["id"] for one in quo.list_phone_numbers()] == ["PN1"]
    assert quo.fetch_contact("CT1") == {"id": "CT1"}


def test_more_than_ten_requests_in_a_second_are_refused(server: SandboxServer, quo: Quo) -> None:
    for _ in range(10):
        list(quo.list_phone_numbers())
    with pytest.raises(Deferred):
        list(quo.list_phone_numbers())
    assert httpx.get(f"{server.url}/_control").json()["quo"][KEY] == {"requests": 10, "refused": 1}


def test_errors_have_the_form_of_the_sample(server: SandboxServer, quo: Quo) -> None:
    headers = {"Authorization": KEY, "Quo-Api-Version": "2026-03-30"}
    wrong = httpx.get(f"{server.url}/quo/calls/1", headers=headers)
    sample = json.loads((SAMPLES / "error_400.json").read_text())
    assert (wrong.status_code, wrong.json()["title"]) == (400, sample["title"])
    assert set(wrong.json()) == set(sample)
    assert httpx.get(f"{server.url}/quo/calls", headers={"Authorization": KEY}).status_code == 400
    with pytest.raises(Refused) as caught:
        quo.fetch_call("AC404")
    assert caught.value.code == NOT_FOUND
    with pytest.raises(Misconfigured):
        Quo(f"{server.url}/quo", "").fetch_call("AC404")


def test_faults_to_order_reach_the_client(server: SandboxServer, quo: Quo) -> None:
    control(server, fail_next={"status": 503, "count": 1}, drop_next=1)
    for code in ("quo.unavailable", "quo.no_answer"):
        with pytest.raises(RetryLater) as caught:
            list(quo.list_phone_numbers())
        assert caught.value.code == code
