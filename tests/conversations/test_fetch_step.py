"""What an event announced and did not contain is read from Quo, and appears on the page."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.filters import WorkFilter
from services.ledger.requeue import requeue
from tests.conversations.notion_shop import NotionShop, shop_with_notion
from tests.conversations.quo_events import make_call, make_event, stamp

NUMBER = "+15550000002"
CALL = {
    "id": "AC1", "phoneNumberId": "PN1", "direction": "incoming", "status": "completed",
    "createdAt": stamp(0),
    "completedAt": stamp(60), "duration": 55,
    "participants": [{"phoneNumber": NUMBER, "actorId": None}],
    "summary": {"status": "completed", "type": "ai", "summary": ["The weather."], "nextSteps": []},
    "voicemail": {"id": "VM1", "status": "completed", "recordingUrl": "https://storage.example/vm.mp3"},
    "recordings": [
        {"id": "RE1", "status": "completed", "startTime": stamp(1), "url": "https://storage.example/1.mp3"}
    ],
    "transcripts": [
        {"status": "completed", "dialogue": [{"identifier": NUMBER, "content": "Hi", "start": 1, "end": 2}]}
    ],
}  # fmt: skip
RESULTS = "select result, count(*) from work_queue where topic = 'interaction_fetch' group by 1 order by 1"


@pytest.fixture
def acme(engine: Engine) -> Iterator[NotionShop]:
    with shop_with_notion(engine) as one:
        yield one


def announce(name: str, **fields: object) -> dict[str, object]:
    """Return the event of a part that has no content."""
    return make_event(f"call.{name}.completed", 90, {"callId": "AC1", **fields}, NUMBER)


@pytest.mark.parametrize("name", ["summary", "transcript", "recording", "voicemail"])
def test_a_part_without_content_is_read(acme: NotionShop, name: str) -> None:
    acme.control_quo(calls=[CALL])
    acme.receive(make_call(), announce(name))
    acme.run_to_the_end()

    assert acme.rows(RESULTS)[0] == ("fetched", 1)
    assert sorted(acme.titles()[0])[1] == f"2026-11-20 18:01 UTC · {name.capitalize()} of the call"
    assert acme.rows("select page_state from interactions") == [("written",)]


def test_a_part_that_quo_does_not_have_is_absent_and_the_call_is_written(acme: NotionShop) -> None:
    acme.receive(make_call(), announce("summary"))
    acme.run_to_the_end()
    assert acme.rows(RESULTS) == [("absent", 2)]
    assert len(acme.titles()[0]) == 1


def test_a_part_that_failed_at_quo_is_not_asked_for(acme: NotionShop) -> None:
    acme.receive(make_call(), announce("summary", processingStatus="failed"))
    acme.run_to_the_end()
    assert acme.rows(RESULTS) == [("skipped", 2)]


def test_a_refused_key_is_dead_and_the_run_goes_on_from_the_step_after_a_requeue(acme: NotionShop) -> None:
    acme.control_quo(calls=[CALL])
    acme.control_quo(fail_next={"status": 401, "count": 2})
    acme.receive(make_call(), announce("summary"))
    acme.run_to_the_end()
    assert acme.rows("select distinct error_code from work_queue where status = 'dead'") == [
        ("quo.key_refused",)
    ]

    with transaction(acme.engine) as tx:
        requeue(tx, WorkFilter(topic="interaction_fetch"), by="ada", now=utc_now(), request_id="")
    acme.run_to_the_end()
    assert len(acme.titles()[0]) == 2
    counts = acme.rows("select topic, count(*) from work_queue group by 1 order by 1")
    assert set(counts) == {(topic, 2) for topic, _ in counts}
