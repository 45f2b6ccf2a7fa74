"""The nightly audit jobs, run by the ledger."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text

from services.alerts.incidents import list_open_incidents
from services.audit.append import append_all
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused
from services.jobs.audit_jobs import WORK_ID_INCIDENT, anchor_heads, archive_events, verify_chains
from services.jobs.definition import Covers
from services.jobs.handler import JobResult, JobRun
from tests.audit.chains import altering, append_chain, entry

pytestmark = pytest.mark.usefixtures("archive")


@pytest.fixture(autouse=True)
def chains(engine: Engine) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 4, 1, utc_now() - timedelta(days=100))
        append_chain(tx, 3, None, utc_now() - timedelta(days=95))
        append_chain(tx, 1, None, utc_now(), first=4)
        append_chain(tx, 2, 1, utc_now(), first=5)


def finish(
    engine: Engine,
    work: Callable[[JobRun], JobResult],
    shop_id: int | None = None,
    period: str = "2026-11-20",
) -> JobResult:
    """Run the work and record its result in one transaction, as the ledger does."""
    run = JobRun(
        id=1, job="a-job", shop_id=shop_id, period=period, covers=Covers.DAY, zone=ZoneInfo("UTC"),
        request_id="r-9", work_id=1,
    )  # fmt: skip
    finished = work(run)
    if finished.record:
        with transaction(engine) as tx:
            append_all(tx, finished.record(tx).audit, utc_now())
    return finished


def test_nightly_jobs_anchor_verify_and_archive(engine: Engine, tmp_path: Path) -> None:
    anchored = finish(engine, anchor_heads)
    verified = finish(engine, verify_chains)
    archived = finish(engine, archive_events, shop_id=1)
    again = finish(engine, verify_chains)

    assert anchored.stats["heads"] == 2
    assert (verified.stats["rows"], verified.stats["chains"], verified.stats["anchors"]) == (11, 2, 1)
    assert (archived.stats["events"], archived.stats["archives"]) == (4, 1)
    assert again.stats["rows"] == 8
    assert len(list((tmp_path / "archive").rglob("*.json"))) == 2


def test_a_clean_verification_signs_the_heads(engine: Engine) -> None:
    finish(engine, verify_chains)
    finish(engine, verify_chains)

    with engine.connect() as tx:
        heads = tx.execute(text("select shop_id, seq from audit_checkpoints order by shop_id nulls first"))
        assert [tuple(head) for head in heads] == [(None, 4), (1, 6)]


def test_an_altered_chain_opens_a_p1_incident_and_is_refused(engine: Engine, owner_engine: Engine) -> None:
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set action = 'x' where seq = 2"))

    for _ in range(2):
        with pytest.raises(Refused, match="altered: row 2") as caught:
            finish(engine, verify_chains)
        assert caught.value.code == "audit.altered"

    with engine.connect() as tx:
        rows = tx.execute(
            text(
                "select shop_id, rule, period, severity, status, summary from incidents"
                " order by 1 nulls first"
            )
        ).all()
        assert tx.scalar(text("select count(*) from audit_checkpoints")) == 0
    assert [tuple(row[:5]) for row in rows] == [
        (None, "audit_chain_failed", "2026-11-20", "P1", "open"),
        (1, "audit_chain_failed", "2026-11-20", "P1", "open"),
    ]
    assert "altered: row 2" in rows[1].summary


def test_a_run_without_a_shop_archives_the_fleets_own_chain(engine: Engine) -> None:
    assert finish(engine, archive_events).stats["events"] == 3

    with engine.connect() as tx:
        row = tx.execute(text("select shop_id, first_seq, last_seq, event_seq from audit_archives")).one()
    assert tuple(row) == (None, 1, 3, 5)


def test_a_work_item_with_two_different_events_opens_one_incident_of_its_chain(engine: Engine) -> None:
    now = utc_now()
    for request_id in ("r-1", "r-2"):
        with transaction(engine) as tx:
            append_all(tx, [entry(1, 7)._replace(work_id=70, request_id=request_id)], now)

    for _ in range(2):
        assert finish(engine, verify_chains).result == "done"

    with transaction(engine) as tx:
        (incident,) = list_open_incidents(tx, WORK_ID_INCIDENT)
    assert (incident.shop_id, incident.severity, incident.period) == (1, "P2", now.date().isoformat())
    assert "row 9 describes the newest" in incident.summary
