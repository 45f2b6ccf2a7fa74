"""Interactions: both envelopes, parts before their call, and one row per call."""

from datetime import UTC, datetime, timedelta
from itertools import count, permutations
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from services.conversations.handler import ingest_interactions
from services.core.db import transaction
from services.core.errors import Refused
from services.ledger.work import Done, WorkItem

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
T0 = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
_ids = count(1)

CONTEXT = {
    "conversationId": "CN1",
    "participants": {"workspace": ["+15550000001"], "external": ["+15550000002"]},
}


def item(body: dict[str, Any] | bytes) -> WorkItem:
    number = next(_ids)
    return WorkItem(
        id=number,
        shop_id=1,
        topic="interaction_ingest",
        key="",
        payload={},
        retry_count=0,
        event_id=number,
        body=body if isinstance(body, bytes) else orjson.dumps(body),
    )


def stamp(seconds: float) -> str:
    return (T0 + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def quo(kind: str, seconds: float, resource: dict[str, Any], **context: Any) -> WorkItem:
    data = {"resource": resource, "context": CONTEXT | context, "links": {}}
    return item(
        {"id": "EV1", "apiVersion": "2026-03-30", "createdAt": stamp(seconds), "type": kind, "data": data}
    )


def legacy(kind: str, seconds: float, source: dict[str, Any]) -> WorkItem:
    body = {"id": "EV1", "object": "event", "apiVersion": "v4", "createdAt": stamp(seconds), "type": kind}
    return item(body | {"data": {"object": source}})


def call(kind: str = "call.completed", seconds: float = 60, status: str = "answered") -> WorkItem:
    return quo(kind, seconds, {"id": "AC1", "direction": "incoming", "status": status, "createdAt": stamp(0)})


def summary(seconds: float = 90, summary_text: str = "The weather.") -> WorkItem:
    return quo("call.summary.completed", seconds, {"callId": "AC1", "summary": [summary_text]})


def transcript(seconds: float = 80) -> WorkItem:
    return quo("call.transcript.completed", seconds, {"callId": "AC1", "dialogue": [{"content": "Hi"}]})


def ingest(engine: Engine, *items: WorkItem) -> list[str]:
    with transaction(engine) as tx:
        outcomes = ingest_interactions(tx, items, NOW).outcomes
    return [o.result if isinstance(o, Done) else o.code for o in outcomes]


def rows(engine: Engine) -> list[Any]:
    with engine.connect() as tx:
        return [row._asdict() for row in tx.execute(text("select * from interactions order by provider_id"))]


def test_legacy_message_becomes_a_row(engine: Engine) -> None:
    source = {
        "id": "AC2",
        "object": "message",
        "from": "+19876543210",
        "to": ["+15555555555"],
        "direction": "incoming",
        "text": "Hello,\x00 world!",
        "status": "delivered",
        "createdAt": stamp(-1),
    }
    ingest(engine, legacy("message.received", 0, source))

    (row,) = rows(engine)
    assert (row["kind"], row["direction"], row["status"]) == ("message", "incoming", "delivered")
    assert row["participants"] == ["+19876543210", "+15555555555"]
    assert row["body"] == "Hello, world!"
    assert (row["occurred_at"], row["version_at"]) == (T0 - timedelta(seconds=1), T0)


def test_new_message_becomes_a_row(engine: Engine) -> None:
    resource = {
        "id": "AC3",
        "direction": "incoming",
        "text": "hello",
        "status": "received",
        "createdAt": stamp(0),
    }
    ingest(
        engine,
        quo(
            "message.received",
            0,
            resource,
            participants=None,
            senderIdentifier="+1",
            recipientIdentifiers=["+2"],
        ),
    )

    (row,) = rows(engine)
    assert (row["provider_id"], row["body"], row["participants"]) == ("AC3", "hello", ["+1", "+2"])
    assert row["detail"]["context"]["conversationId"] == "CN1"


def test_any_order_of_a_calls_events_ends_in_the_same_row(engine: Engine) -> None:
    events = [
        call("call.ringing", 60, "ringing"),
        call(),
        summary(70, "A first draft."),
        summary(90),
        transcript(),
    ]
    seen = []
    for permuted in permutations(events):
        with transaction(engine) as tx:
            tx.exec_driver_sql("delete from interactions")
        ingest(engine, *permuted[:2])
        ingest(engine, *permuted[2:], permuted[0])
        seen.append(rows(engine))

    assert all(state == seen[0] for state in seen)
    ((row,),) = seen[:1]
    assert (row["kind"], row["direction"], row["status"]) == ("call", "incoming", "answered")
    assert row["participants"] == ["+15550000001", "+15550000002"]
    assert row["detail"]["summary"]["object"]["summary"] == ["The weather."]
    assert row["detail"]["transcript"]["object"]["dialogue"] == [{"content": "Hi"}]
    assert row["occurred_at"] == T0


def test_parts_without_their_call_are_a_row_that_any_event_of_the_call_replaces(engine: Engine) -> None:
    states = []
    for permuted in ([summary(), transcript()], [transcript(), summary()]):
        with transaction(engine) as tx:
            tx.exec_driver_sql("delete from interactions")
        ingest(engine, *permuted)
        states.append([{k: v for k, v in row.items() if k != "event_id"} for row in rows(engine)])

    assert states[0] == states[1]
    assert states[0][0]["occurred_at"] == T0 + timedelta(seconds=80)
    assert ingest(engine, call("call.ringing", 0, "ringing")) == ["done"]
    assert rows(engine)[0]["status"] == "ringing"


def test_legacy_parts_find_their_call_by_its_id(engine: Engine) -> None:
    ingest(
        engine,
        call(),
        legacy("callSummary", 99, {"callId": "AC1", "object": "callSummary", "summary": ["x"]}),
    )

    (row,) = rows(engine)
    assert row["detail"]["summary"]["object"]["summary"] == ["x"]


def test_older_event_is_stale_and_a_copy_is_done(engine: Engine) -> None:
    assert ingest(engine, call(), call(), call("call.ringing", 5, "ringing")) == ["done", "done", "stale"]
    assert ingest(engine, summary(), summary(), summary(80)) == ["done", "done", "stale"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (quo("call.completed", 1, {"direction": "incoming"}), "data.id is None: it should be text"),
        (item({"type": "call.completed", "createdAt": stamp(0), "data": {}}), "data.object is None"),
        (item({"type": "call.completed", "data": {"object": {"id": "AC1"}}}), "createdAt is None"),
        (item(b"nonsense"), "a JSON object"),
    ],
    ids=["no id", "no object", "no time", "no JSON"],
)
def test_body_without_a_required_field_is_refused_alone(
    engine: Engine, broken: WorkItem, message: str
) -> None:
    with transaction(engine) as tx:
        refused, done = ingest_interactions(tx, [broken, summary()], NOW).outcomes

    assert isinstance(refused, Refused)
    assert message in refused.detail
    assert isinstance(done, Done)
