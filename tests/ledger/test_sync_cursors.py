"""Watermarks: how far a list was read, per shop, provider and stream."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from services.ledger.sync_cursors import find_mark, record_mark

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_stream_that_was_never_read_has_no_mark(tx: Connection) -> None:
    assert find_mark(tx, 1, "stripe", "events") is None


def test_mark_is_its_streams_alone(tx: Connection) -> None:
    record_mark(tx, 1, "stripe", "events", NOW, NOW)

    assert find_mark(tx, 1, "stripe", "events") == NOW
    assert find_mark(tx, 1, "stripe", "charges") is None
    assert find_mark(tx, 1, "shopify", "events") is None
    assert find_mark(tx, 2, "stripe", "events") is None


def test_mark_goes_on_and_never_back(tx: Connection) -> None:
    for reached_at in (NOW, NOW + HOUR, NOW - HOUR):
        record_mark(tx, 1, "stripe", "events", reached_at, NOW + 2 * HOUR)

    assert find_mark(tx, 1, "stripe", "events") == NOW + HOUR
