"""The job ``retention`` killed at each commit and each step of the archive store: counts are exact."""

from itertools import count

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.settings import get_settings
from services.providers.object_store import FolderStore
from services.retention import events
from services.retention.delete import list_old_rows
from services.retention.rules import EVENTS, RULES
from services.retention.verify import verify_archives
from tests.killed import run_killed
from tests.retention.aged_rows import INSERTS, NOW, insert
from tests.retention.old_rows import make_old, read_all, run_job, select_all

IDS = "select id from inbound_events order by id"
WORK = "select id, event_id, topic, status, result from work_queue order by id"
ENTRY_COUNTS = """
select sum((m.after ->> 'events')::int), count(*) from audit_events e
  join audit_mutations m on m.event_id = e.id where e.action = 'events.archive'
"""
TOTALS = "select sum(done), sum(retried), sum(dead) from work_stats where minute = '1970-01-01Z'"
OLDER = 900
"""Days: older than every age."""


def test_a_job_that_is_killed_at_each_step_loses_nothing_and_repeats_nothing(
    shop: Engine, archive: FolderStore, monkeypatch: pytest.MonkeyPatch, owner_engine: Engine
) -> None:
    monkeypatch.setattr(events, "PIECE_EVENTS", 5)
    make_old(shop, "topic <> 'customers/create'")
    for table in INSERTS:
        for days in (1, OLDER):
            insert(shop, table, days, **({"status": "sent"} if table == "mail_outbox" else {}))
    with transaction(shop) as tx:
        tx.execute(text("update work_stats set last_at = now() - interval '9 days'"))
    before, work, totals = select_all(shop, IDS), select_all(shop, WORK), select_all(shop, TOTALS)
    with transaction(shop) as tx:
        planned = {line.rule.rows: line.rows for line in list_old_rows(tx, get_settings(), NOW)}
    tables = {table: select_all(shop, f"select count(*) from {table}")[0] for table in INSERTS}  # noqa: S608

    for step in count(1):
        if run_killed(shop, lambda: run_job(shop), step):
            break
        assert sorted([*select_all(shop, IDS), *read_all(shop)[0]]) == before
        with owner_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as tx:
            tx.execute(text("vacuum (freeze) inbound_events, work_queue, work_stats"))

    archived = read_all(shop)[0]
    assert step > 10
    assert len(archived) == planned[EVENTS.rows] > 2 * 3
    assert sorted([*select_all(shop, IDS), *archived]) == before
    left = select_all(shop, WORK)
    archived_work = [row for row in work if row[1] in archived]
    assert [(one["id"], event.id) for event in archived.values() for one in event.work] == [
        row[:2] for row in archived_work
    ]
    assert set(left) < set(work)
    assert len(left) == len(work) - len(archived_work) - planned[RULES[0].rows]
    for rule in RULES:
        if rule.table == "table_sizes":  # the job adds the sizes of this day
            continue
        gone = sum(planned[one.rows] for one in RULES if (one.table, one.done) == (rule.table, "deleted"))
        more = len(archived_work) if rule.table == "work_queue" else 0
        found = select_all(shop, f"select count(*) from {rule.table}")[0]  # noqa: S608
        assert found == tables[rule.table] - gone - more, rule.table
    assert select_all(shop, "select count(*) from mail_outbox where emptied_at is not null") == [1]
    assert select_all(shop, TOTALS) == totals
    archives = [*verify_archives(transaction, archive, None)]
    assert select_all(shop, ENTRY_COUNTS) == [(len(archived), len(archives))]
    assert [one.fault for one in archives] == [""] * len(archives)
    assert sorted(one.object_key for one in archives) == archive.find_keys("ledger/")
    assert {name for name, value in run_job(shop).items() if value} == set()
