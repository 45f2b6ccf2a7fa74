"""The audit says which call or message was kept, each event its own step, and never who said what."""

import orjson
from sqlalchemy import Engine

from services.conversations.handler import ingest_interactions
from services.core.db import transaction
from services.ledger.work import WorkItem
from tests.conversations.test_interactions import CONTEXT, NOW, call, quo, stamp, summary, transcript


def said(engine: Engine, *items: WorkItem) -> list[str]:
    with transaction(engine) as tx:
        audit = ingest_interactions(tx, items, NOW).audit
    return [mutation.summary for entry in audit for mutation in entry.mutations]


def test_call_is_told_as_it_goes_on_each_event_of_a_set_by_itself(engine: Engine) -> None:
    assert said(engine, call("call.ringing", 5, "ringing"), call(), summary(), call()) == [
        "call AC1 recorded: ringing",
        "call AC1: ringing -> answered",
        "summary of call AC1 recorded",
    ]


def test_part_before_its_call_is_told_and_stale_events_say_nothing(engine: Engine) -> None:
    assert said(engine, transcript(80), transcript(70)) == ["transcript of call AC1 recorded"]
    assert said(engine, call()) == ["call AC1: no status -> answered"]
    assert said(engine, call(), transcript(80)) == []


def test_steps_of_a_call_join_up(engine: Engine) -> None:
    with transaction(engine) as tx:
        audit = ingest_interactions(tx, [call("call.ringing", 5, "ringing"), call()], NOW).audit

    first, second = (entry.mutations[0] for entry in audit)
    assert first.before is None
    assert first.after is not None
    assert second.before == {name: first.after[name] for name in ("status", "version_at")}


def test_who_spoke_and_what_was_said_is_in_no_entry(engine: Engine) -> None:
    message = {
        "id": "AC7", "direction": "incoming", "status": "received", "createdAt": stamp(0),
        "from": "+16045550199", "text": "It is Zerlina, call me back",
    }  # fmt: skip
    events = [
        quo("message.received", 0, message),
        summary(summary_text="Zerlina was angry."),
        transcript(),
        call(),
    ]
    with transaction(engine) as tx:
        audit = ingest_interactions(tx, events, NOW).audit

    assert len(audit) == 4
    text = orjson.dumps([m._asdict() for e in audit for m in e.mutations], default=str).decode()
    numbers = [number for side in CONTEXT["participants"].values() for number in side]  # type: ignore[attr-defined]
    assert not [word for word in ("Zerlina", "+1604", "Hi", *numbers) if word in text]
