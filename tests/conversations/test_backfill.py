"""Backfill from Quo's lists: the rows of webhooks, nothing twice, and resumed where it stopped."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from services.conversations.backfill import BackfillCounts, backfill_conversations
from services.conversations.backfill_job import backfill_nightly
from services.conversations.handler import ingest_interactions
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.jobs.definition import Covers
from services.jobs.handler import JobRun
from services.ledger.work import WorkItem
from services.sandbox.serve import SandboxServer
from services.sandbox.state import SandboxState
from services.shops.secrets import record_secret
from tests.cli.commands import run
from tests.conversations.test_interactions import CONTEXT
from tests.fakes.settings import settings_of
from tests.jobs.job_rows import add_shops

KEY = "quo-acme"
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
SINCE = NOW - timedelta(days=3)
WORKSPACE, EXTERNAL = "+15550000001", "+15550000002"
SUMMARY = {"status": "completed", "summary": ["The weather."], "nextSteps": ["Bring an umbrella."]}
RECORDING = {"id": "CR1", "startTime": "2026-11-20T12:00:01Z", "url": "https://files.example/a.mp3"}
LINE = {"content": "Hi", "start": 0.5, "end": 1.2, "identifier": EXTERNAL}


@pytest.fixture
def sandbox(engine: Engine) -> Iterator[SandboxServer]:
    add_shops(engine, utc_now(), acme="America/Vancouver", west="UTC")
    with transaction(engine) as tx:
        record_secret(tx, 1, "quo-key", KEY, utc_now())
    with SandboxServer(0, SandboxState()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        with settings_of(QUO_API_BASE=f"{server.url}/quo"):
            server.state.control({"quo_key": KEY, "limit": 0})
            yield server
        server.shutdown()
        thread.join()


def stamp(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def call(number: int, at: datetime, **more: Any) -> dict[str, Any]:
    participants = [{"phoneNumber": WORKSPACE, "actorId": "US1"}, {"phoneNumber": EXTERNAL, "actorId": None}]
    ends = stamp(at + timedelta(minutes=1))
    return {
        "id": f"AC{number}", "phoneNumberId": "PN1", "direction": "incoming", "status": "completed",
        "participants": participants, "createdAt": stamp(at), "answeredAt": stamp(at), "completedAt": ends,
        "updatedAt": ends, "duration": 60, **more,
    }  # fmt: skip


def message(number: int, at: datetime, **more: Any) -> dict[str, Any]:
    return {
        "id": f"ACM{number}", "from": EXTERNAL, "to": [WORKSPACE], "text": "Is it open?", "media": [],
        "direction": "incoming", "status": "received", "createdAt": stamp(at), "updatedAt": stamp(at),
        "phoneNumberId": "PN1", "conversationId": "CN1", **more,
    }  # fmt: skip


def fill(server: SandboxServer, **objects: Any) -> None:
    server.state.control({"quo_key": KEY, **objects})


def backfill(since: datetime = SINCE, now: datetime = NOW, **more: Any) -> tuple[int, int, int]:
    found = backfill_conversations(1, since, now, notify=lambda _refs: None, **more)
    return found.synced, found.skipped, found.failed


def ingest_recorded(engine: Engine, shop_id: int = 1) -> None:
    """Handle the recorded events as a worker does."""
    with transaction(engine) as tx:
        rows = tx.execute(text("select id, body from inbound_events order by id")).all()
        items = [
            WorkItem(
                id=row.id, shop_id=shop_id, topic="interaction_ingest", key="", payload={}, retry_count=0,
                event_id=row.id, body=bytes(row.body),
            )
            for row in rows
        ]  # fmt: skip
        ingest_interactions(tx, items, NOW)


def read_rows(engine: Engine, shop_id: int) -> list[dict[str, Any]]:
    query = (
        "select provider_id, kind, direction, status, participants, body, detail, occurred_at"
        " from interactions where shop_id = :shop_id order by provider_id"
    )
    with transaction(engine) as tx:
        return [row._asdict() for row in tx.execute(text(query), {"shop_id": shop_id})]


def count_requests(server: SandboxServer) -> int:
    found: int = server.state.state()["quo"][KEY]["requests"]
    return found


def test_a_call_and_a_message_have_the_same_rows_however_they_came(
    engine: Engine, sandbox: SandboxServer
) -> None:
    at = NOW - timedelta(hours=21)
    transcript = {"status": "completed", "dialogue": [{**LINE, "actorId": None}]}
    listed = call(1, at, summary=SUMMARY, recordings=[RECORDING], transcripts=[transcript])
    fill(sandbox, calls=[listed], messages=[message(1, at)])
    assert backfill() == (2, 0, 0)
    ingest_recorded(engine)

    times = {name: listed[name] for name in ("createdAt", "answeredAt", "completedAt", "updatedAt")}
    base = {"id": "AC1", "direction": "incoming", "status": "completed", **times, "duration": 60}
    summary = {"callId": "AC1", "processingStatus": "completed", "summary": SUMMARY["summary"]}
    sms = message(1, at)
    of_message = {
        name: sms[name] for name in ("id", "direction", "status", "text", "media", "createdAt", "updatedAt")
    }
    sides = {"senderIdentifier": EXTERNAL, "recipientIdentifiers": [WORKSPACE]}
    webhooks = [
        ("call.completed", {**base, "hasVoicemail": False}, CONTEXT),
        ("call.summary.completed", {**summary, "nextSteps": SUMMARY["nextSteps"]}, CONTEXT),
        ("call.recording.completed", {**base, "recordings": [RECORDING]}, CONTEXT),
        ("call.transcript.completed", {"callId": "AC1", "dialogue": [{**LINE, "userId": None}]}, CONTEXT),
        ("message.received", of_message, {"conversationId": "CN1", **sides}),
    ]
    items = []
    for number, (kind, resource, context) in enumerate(webhooks):
        event = {
            "id": "E",
            "type": kind,
            "createdAt": stamp(at),
            "data": {"resource": resource, "context": context},
        }
        items.append(
            WorkItem(
                id=number, shop_id=2, topic="interaction_ingest", key="", payload={}, retry_count=0,
                event_id=number, body=orjson.dumps(event),
            )
        )  # fmt: skip
    with transaction(engine) as tx:
        ingest_interactions(tx, items, NOW)

    pulled, received = read_rows(engine, 1), read_rows(engine, 2)
    details = [[row.pop("detail") for row in rows] for rows in (pulled, received)]
    assert pulled == received
    for ours, theirs in zip(*details, strict=True):
        assert set(ours) == set(theirs)
        assert ours["object"] == theirs["object"]
        assert theirs["context"].items() <= {**CONTEXT, **ours["context"]}.items()
        for part in ("summary", "recording", "transcript"):
            for name, value in theirs.get(part, {}).get("object", {}).items():
                assert ours[part]["object"][name] == value, (part, name)


def test_what_is_known_is_skipped_and_a_missing_part_is_added(engine: Engine, sandbox: SandboxServer) -> None:
    fill(sandbox, calls=[call(1, NOW - timedelta(hours=5))], messages=[message(1, NOW - timedelta(hours=4))])
    assert backfill() == (2, 0, 0)
    ingest_recorded(engine)
    assert backfill() == (0, 0, 0)
    assert backfill(SINCE - timedelta(days=1)) == (0, 2, 0)
    fill(sandbox, calls=[call(1, NOW - timedelta(hours=5), summary=SUMMARY)])
    assert backfill(SINCE - timedelta(days=2)) == (1, 1, 0)
    with transaction(engine) as tx:
        topics = tx.execute(text("select topic, origin from inbound_events order by id")).all()
    assert [tuple(row) for row in topics] == [
        ("call.completed", "backfill"),
        ("message.received", "backfill"),
        ("call.summary.completed", "backfill"),
    ]


def test_an_interrupted_run_continues_at_its_day_and_records_nothing_twice(
    engine: Engine, sandbox: SandboxServer
) -> None:
    calls = [call(number, SINCE + timedelta(hours=number * 6), answeredAt=None) for number in range(12)]
    fill(sandbox, calls=calls)
    seen: list[int] = []

    def stop(name: str, done: int, _total: int | None) -> None:
        seen.append(done)
        if name == "calls" and done >= 6:
            raise RetryLater("test.stopped")

    with pytest.raises(RetryLater):
        backfill(progress=stop, batch_size=2)
    before = count_requests(sandbox)
    assert backfill(batch_size=2) == (6, 2, 0)
    # Two lists a day for what is left of three days.
    assert count_requests(sandbox) - before == 2 * 3
    with transaction(engine) as tx:
        assert tx.scalar(text("select count(*) from inbound_events where duplicate_count = 0")) == 12


def test_a_start_further_back_reads_its_whole_window(engine: Engine, sandbox: SandboxServer) -> None:
    fill(
        sandbox,
        calls=[call(number, NOW - timedelta(days=number, hours=3), answeredAt=None) for number in range(6)],
    )
    assert backfill() == (3, 0, 0)
    assert backfill(NOW - timedelta(days=6)) == (3, 3, 0)
    assert backfill() == (0, 0, 0)


def test_an_object_that_cannot_be_read_is_counted_and_the_others_are_recorded(
    engine: Engine, sandbox: SandboxServer
) -> None:
    odd = call(1, NOW - timedelta(hours=3)) | {"completedAt": "yesterday"}
    fill(sandbox, calls=[odd, call(2, NOW - timedelta(hours=2))])
    assert backfill() == (1, 0, 1)


def test_the_rate_limit_is_waited_for_inside_a_run(engine: Engine, sandbox: SandboxServer) -> None:
    fill(
        sandbox,
        calls=[call(1, NOW - timedelta(hours=3))],
        fail_next={"status": 429, "count": 2, "headers": {"Retry-After": "7"}},
    )
    waits: list[timedelta] = []
    assert backfill(pause=waits.append) == (1, 0, 0)
    assert waits == [timedelta(seconds=7)] * 2


def test_a_dry_run_counts_and_changes_nothing(engine: Engine, sandbox: SandboxServer) -> None:
    fill(sandbox, calls=[call(1, NOW - timedelta(hours=3))])
    assert backfill(is_dry=True) == (1, 0, 0)
    with transaction(engine) as tx:
        assert tx.scalar(text("select count(*) from inbound_events")) == 0
        assert tx.scalar(text("select count(*) from sync_cursors")) == 0


def test_a_shop_without_a_key_is_not_read(engine: Engine, sandbox: SandboxServer) -> None:
    with pytest.raises(Misconfigured, match="quo-key"):
        backfill_conversations(2, SINCE, NOW, counts=BackfillCounts())


def test_the_nightly_job_reads_from_the_cursor_on_and_leaves_other_shops_out(
    engine: Engine, sandbox: SandboxServer
) -> None:
    fill(
        sandbox,
        calls=[call(number, NOW - timedelta(days=number, hours=1), answeredAt=None) for number in (1, 29)],
    )
    for shop_id, now, result in (
        (1, NOW, "backfilled"),
        (1, NOW + timedelta(days=1), "complete"),
        (2, NOW, "no_quo"),
    ):
        job = JobRun(
            id=1, job="conversations-backfill", shop_id=shop_id, period="2026-11-20", covers=Covers.DAY,
            zone=NOW.tzinfo, request_id="r", work_id=1,
        )  # type: ignore[arg-type] # fmt: skip
        before = count_requests(sandbox) if now > NOW else 0
        assert backfill_nightly(job, clock=lambda now=now: now).result == result
        if now > NOW:
            assert count_requests(sandbox) - before == 2 * 2


def test_the_command_reports_each_shop_and_ends_with_1_if_one_cannot_be_read(
    engine: Engine, sandbox: SandboxServer
) -> None:
    fill(sandbox, calls=[call(1, utc_now() - timedelta(hours=3), answeredAt=None)])
    done = run("conversations", "backfill", "--days", "2", "--json")
    assert done.exit_code == 0, done.output
    (document,) = json.loads(done.stdout)["shops"]
    assert (document.pop("read_from") < stamp(utc_now()), document.pop("earlier_run_until")) == (True, None)
    counts = {"synced": 1, "skipped": 0, "failed": 0, "events": {"call.completed": 1}}
    assert document == {"shop": "acme", "state": "complete"} | counts
    with transaction(engine) as tx:
        assert (
            tx.scalar(text("select count(*) from audit_events where action = 'conversations.backfill'")) == 1
        )
    listed = json.loads(run("events", "list", "--provider", "quo", "--json").stdout)
    assert [one["provider"] for one in listed] == ["openphone"]
    again = run("conversations", "backfill", "--days", "2")
    assert "acme: read from " in again.output
    assert "`--again` reads those days too" in again.output
    fill(sandbox, fail_next={"status": 401, "count": 1})
    refused = run("conversations", "backfill", "--days", "2")
    assert refused.exit_code == 1
    assert "quo.key_refused" in refused.output
    missing = run("conversations", "backfill", "--shop", "west")
    assert missing.exit_code == 2
    assert "fleet shops secret west quo-key --stdin" in missing.output
