"""Backfill of days that were read, and of the example for the sandbox."""

import json
import re
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Engine

from services.conversations.backfill import OVERLAP, BackfillCounts
from services.sandbox.serve import SandboxServer
from tests.conversations.test_backfill import (
    KEY,
    NOW,
    SINCE,
    backfill,
    call,
    fill,
    ingest_recorded,
    read_rows,
    sandbox,
    stamp,
)

__all__ = ["sandbox"]
PAGE = Path(__file__).parents[2] / "docs" / "sandbox.md"


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


def test_the_example_of_the_page_of_the_sandbox_is_a_call_and_a_message(
    engine: Engine, sandbox: SandboxServer
) -> None:
    (example,) = re.findall(r"""-d '(\{"quo_key": "quo-harbour",\n.*?\]\})'\n""", PAGE.read_text(), re.DOTALL)
    example = example.replace("'$at'", stamp(NOW - timedelta(hours=1)))
    sandbox.state.control(json.loads(example) | {"quo_key": KEY})
    assert backfill() == (2, 0, 0)
    ingest_recorded(engine)
    assert [row["kind"] for row in read_rows(engine, 1)] == ["call", "message"]
