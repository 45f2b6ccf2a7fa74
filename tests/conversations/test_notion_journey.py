"""Calls and messages of Quo become one page of Notion per merchant, with each part once."""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from tests.conversations.notion_shop import NotionShop, shop_with_notion
from tests.conversations.quo_events import make_call, make_message, make_part, stamp

CALL = "2026-11-20 18:00 UTC · Call · incoming · answered · 55 seconds"


@pytest.fixture
def acme(engine: Engine) -> Iterator[NotionShop]:
    with shop_with_notion(engine) as one:
        yield one


def test_a_call_and_its_parts_become_one_page(acme: NotionShop) -> None:
    acme.receive(make_call(), make_part("summary"), make_part("transcript"))
    acme.run_to_the_end()

    (page,) = acme.pages()
    assert page["properties"]["Phone"]["phone_number"] == "+15550000002"
    ((uuid,),) = acme.rows("select uuid::text from merchants")
    assert page["properties"]["Merchant UUID"]["rich_text"][0]["plain_text"] == uuid
    assert sorted(acme.titles()[0]) == [
        CALL,
        "2026-11-20 18:01 UTC · Summary of the call",
        "2026-11-20 18:01 UTC · Transcript of the call",
    ]
    assert acme.rows("select page_id, page_state from interactions") == [(page["id"], "written")]
    assert acme.rows("select page_id from canvas_cache where expires_at > now() + interval '6 hours'") == [
        (page["id"],)
    ]


def test_each_step_is_done_and_what_waits_is_written_in_one_request(acme: NotionShop) -> None:
    acme.receive(make_call(), make_part("summary"), make_part("transcript"))
    acme.run("interaction_ingest")
    acme.run("notion_find")
    before = acme.requests()
    acme.run_to_the_end()

    assert acme.requests() - before == 1
    found = acme.rows("select topic, result, count(*) from work_queue group by 1, 2 order by 1, 2")
    assert found == [
        ("interaction_enrich", "skipped", 3),
        ("interaction_fetch", "skipped", 3),
        ("interaction_ingest", "done", 3),
        ("interaction_note", "done", 1),
        ("interaction_note", "skipped", 2),
        ("notion_find", "created", 1),
        ("notion_find", "skipped", 2),
        ("notion_write", "skipped", 2),
        ("notion_write", "written", 1),
    ]


def test_any_order_of_the_events_of_a_call_ends_in_the_same_page(acme: NotionShop) -> None:
    events = [
        make_call(kind="call.ringing", seconds=5),
        make_call(),
        make_part("recording", seconds=70),
        make_part("transcript", seconds=80),
        make_part("summary", seconds=90),
    ]
    histories = []
    for number, permuted in enumerate(permutations(events)):
        call_id, phone = f"AC{number}".encode(), f"+1555000{number:04}".encode()
        text = orjson.dumps([*permuted, permuted[number % 5]])
        histories.append(orjson.loads(text.replace(b"AC1", call_id).replace(b"+15550000002", phone)))
    for nth in zip(*histories, strict=True):  # the calls go on side by side, each in its own order
        acme.receive(*nth)
        acme.run()
    acme.run_to_the_end()

    assert len(acme.pages()) == 120
    expected = [
        CALL,
        "2026-11-20 18:01 UTC · Recording of the call",
        "2026-11-20 18:01 UTC · Summary of the call",
        "2026-11-20 18:01 UTC · Transcript of the call",
    ]
    assert [titles for titles in acme.titles() if sorted(titles) != expected] == []


def test_a_message_that_is_no_complete_address_is_on_the_page(acme: NotionShop) -> None:
    acme.receive(make_message("M1", text="https://"), make_message("M2", text="https://shop.example/a?b=c#d"))
    acme.run_to_the_end()

    assert acme.rows("select distinct page_state from interactions") == [("written",)]


def test_a_summary_that_is_sent_again_replaces_its_blocks(acme: NotionShop) -> None:
    acme.receive(make_call(), make_part("summary", text="A first draft."))
    acme.run_to_the_end()
    acme.receive(make_part("summary", text="The weather.", seconds=120))
    acme.run_to_the_end()

    assert sorted(acme.titles()[0]) == [CALL, "2026-11-20 18:02 UTC · Summary of the call"]


def test_a_message_has_its_last_status(acme: NotionShop) -> None:
    acme.receive(make_message("M1", text="hi", kind="message.failed", seconds=1))
    acme.run_to_the_end()
    acme.receive(make_message("M1", text="hi", kind="message.delivered", seconds=9))
    acme.run_to_the_end()

    assert acme.titles() == [["2026-11-20 18:00 UTC · Message · outgoing · delivered"]]


def test_events_of_the_older_format_end_in_the_same_page(acme: NotionShop) -> None:
    """Its summaries and transcripts have no number: they wait for the call."""

    def legacy(kind: str, seconds: float, source: dict[str, Any]) -> dict[str, Any]:
        event = {"id": "EV1", "object": "event", "apiVersion": "v4", "createdAt": stamp(seconds)}
        return {**event, "type": kind, "data": {"object": source}}

    call = {
        "id": "AC1", "object": "call", "direction": "outgoing", "status": "completed", "duration": 60,
        "createdAt": stamp(0), "participants": ["+15550000002"],
    }  # fmt: skip
    media = [{"url": "https://storage.example/1.mp3", "duration": 60}]
    message = {
        "id": "M1", "object": "message", "direction": "incoming", "from": "+15550000002",
        "to": ["+15550000001"], "text": "hello", "status": "received", "createdAt": stamp(0),
    }  # fmt: skip
    acme.receive(legacy("callSummary", 90, {"callId": "AC1", "summary": ["The weather."]}))
    acme.run_to_the_end()
    assert acme.rows("select topic from work_queue") == [("interaction_ingest",)]

    acme.receive(
        legacy("call.completed", 60, call),
        legacy("call.recording.completed", 70, {**call, "media": media}),
        legacy("message.received", 0, message),
    )
    acme.run_to_the_end()
    acme.receive(legacy("callTranscript", 95, {"callId": "AC1", "dialogue": [{"content": "Hi"}]}))
    acme.run_to_the_end()

    (titles,) = acme.titles()
    assert sorted(title.partition(" · ")[2] for title in titles) == [
        "Call · outgoing · completed · 60 seconds",
        "Message · incoming · received",
        "Recording of the call",
        "Summary of the call",
        "Transcript of the call",
    ]


def test_a_shop_without_notion_stores_the_call_and_has_no_further_work(acme: NotionShop) -> None:
    with transaction(acme.engine) as tx:
        tx.exec_driver_sql("update shop_config set notion_data_source = ''")
    acme.receive(make_call())
    acme.run_to_the_end()

    assert acme.rows("select topic from work_queue") == [("interaction_ingest",)]
    assert acme.rows("select provider_id, merchant_id from interactions") == [("AC1", None)]


def test_steps_of_a_run_are_audited(acme: NotionShop) -> None:
    acme.receive(make_call())
    acme.run_to_the_end()

    found = acme.rows("select summary from audit_mutations order by event_id, place")
    summaries = [str(one) for (one,) in found][-5:]
    page_id = acme.pages()[0]["id"]
    assert summaries == [
        "call AC1 recorded: answered",
        "merchant 1 recorded",
        f"page {page_id} of merchant 1 created in Notion",
        f"1 part written to page {page_id} of merchant 1 in Notion",
        f"call AC1: written on page {page_id} in Notion",
    ]
    assert "+1555" not in " ".join(summaries)
