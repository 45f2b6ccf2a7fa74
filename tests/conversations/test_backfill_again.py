"""Backfill of days that were read: on demand, and after a run of fewer days."""

from datetime import timedelta

from services.conversations.backfill import OVERLAP, BackfillCounts
from services.sandbox.serve import SandboxServer
from tests.conversations.test_backfill import NOW, SINCE, backfill, call, fill, sandbox

__all__ = ["sandbox"]


def test_a_day_that_was_read_is_read_again_on_demand(sandbox: SandboxServer) -> None:
    assert backfill() == (0, 0, 0)
    fill(sandbox, calls=[call(1, NOW - timedelta(days=2), answeredAt=None)])
    later = NOW + timedelta(hours=3)
    counts = BackfillCounts()
    assert backfill(now=later, counts=counts) == (0, 0, 0)
    assert (counts.read_from, counts.earlier_until) == (NOW - OVERLAP, NOW)
    counts = BackfillCounts()
    assert backfill(now=later, is_again=True, counts=counts) == (1, 0, 0)
    assert (counts.read_from, counts.earlier_until) == (SINCE, None)


def test_a_run_that_begins_after_the_cursor_leaves_no_gap(sandbox: SandboxServer) -> None:
    assert backfill() == (0, 0, 0)
    fill(sandbox, calls=[call(number, NOW + timedelta(days=number), answeredAt=None) for number in (2, 9)])
    now = NOW + timedelta(days=10)
    assert backfill(now - timedelta(days=3), now) == (1, 0, 0)
    assert backfill(NOW, now) == (1, 1, 0)
