"""A redaction while archived or recorded events are replayed: no copy brings the person's data back."""

from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger import replay
from services.ledger.filters import EventFilter
from services.ledger.replay_archived import replay_archived
from services.privacy import customer_redaction
from services.privacy.archived_data import ARCHIVED_EVENTS
from services.providers.object_store import open_store
from tests.fleet.waiting import wait_for
from tests.privacy.customers import JANES, JOHNS, dump_rows, find_words, request_privacy
from tests.retention.old_rows import make_old, run_job, select_all

WAITING = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
COPIES = "select count(*) from inbound_events where origin = 'replay'"


def replay_all(engine: Engine) -> int:
    """Replay all events, as the command does; return how many were archived and could not be read."""
    wanted, now = EventFilter(shop_id=1), utc_now()
    with transaction(engine) as tx:
        replay.replay_events(tx, wanted, now=now, by="ada")
    store = open_store(get_settings().archive_url)
    return len(replay_archived(transaction, store, wanted, now=now, by="ada").sealed)


@pytest.mark.parametrize("is_archived", [True, False], ids=["archived", "recorded"])
@pytest.mark.parametrize(
    ("topic", "gone"),
    [("customers/redact", JOHNS), ("shop/redact", (*JOHNS, *JANES))],
    ids=["customer", "shop"],
)
def test_a_redaction_between_reading_and_recording_finds_the_copies(
    shop: Engine, monkeypatch: pytest.MonkeyPatch, topic: str, gone: tuple[str, ...], *, is_archived: bool
) -> None:
    if is_archived:
        make_old(shop)
        run_job(shop)
    record, redactions = replay.record_events, []

    def redact_first(tx: Connection, copies: Any) -> Any:
        # The event that is not JSON stays in the table; the archived ones have more copies.
        if not redactions and len(copies) > 1:
            redactions.append(thread := Thread(target=request_privacy, args=(shop, topic, 700)))
            thread.start()
            wait_for(lambda: not thread.is_alive() or select_all(shop, WAITING) != [0])
        return record(tx, copies)

    monkeypatch.setattr(replay, "record_events", redact_first)
    assert replay_all(shop) == 0
    redactions[0].join()

    assert select_all(shop, COPIES)[0] >= 12
    assert select_all(shop, "select status from privacy_requests") == ["done"]
    assert find_words(dump_rows(shop), gone) == set()


def test_copies_of_archived_events_are_erased_with_the_shop_until_its_keys_are_destroyed(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(shop)
    run_job(shop)
    redact = customer_redaction._redact

    def replay_before_the_keys(sources: Any, subject: Any) -> Any:
        if ARCHIVED_EVENTS in sources and select_all(shop, COPIES) == [0]:
            replay_all(shop)
        return redact(sources, subject)

    monkeypatch.setattr(customer_redaction, "_redact", replay_before_the_keys)
    request_privacy(shop, "shop/redact", 700)

    assert select_all(shop, COPIES)[0] >= 12
    assert find_words(dump_rows(shop), (*JOHNS, *JANES)) == set()


def test_a_replay_after_the_redaction_records_no_event_of_the_person(shop: Engine) -> None:
    make_old(shop)
    run_job(shop)
    request_privacy(shop, "customers/redact", 700)

    assert replay_all(shop) == 10
    assert find_words(dump_rows(shop), JOHNS) == set()
