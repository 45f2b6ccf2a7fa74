"""Sync cursors: the position in a list, per shop, provider and stream."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from services.ledger.sync_cursors import find_cursor, upsert_cursor

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_stream_that_was_never_read_has_no_cursor(tx: Connection) -> None:
    assert find_cursor(tx, 1, "stripe", "events") is None


def test_cursor_belongs_to_one_stream(tx: Connection) -> None:
    upsert_cursor(tx, 1, "stripe", "events", NOW, NOW)

    assert find_cursor(tx, 1, "stripe", "events") == NOW
    assert find_cursor(tx, 1, "stripe", "charges") is None
    assert find_cursor(tx, 1, "shopify", "events") is None
    assert find_cursor(tx, 2, "stripe", "events") is None


def test_cursor_never_moves_back(tx: Connection) -> None:
    for synced_until in (NOW, NOW + HOUR, NOW - HOUR):
        upsert_cursor(tx, 1, "stripe", "events", synced_until, NOW + 2 * HOUR)

    assert find_cursor(tx, 1, "stripe", "events") == NOW + HOUR
