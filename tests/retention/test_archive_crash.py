"""A crash or a change while events are archived loses nothing and stores nothing twice."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import RetryLater
from services.ledger.claim import claim_transactional
from services.ledger.topics import TOPICS
from services.providers.object_store import FolderStore
from services.retention.delete import delete_old_rows
from services.retention.events import ArchiveRun, archive_old_events
from services.retention.rules import RULES
from tests.killed import run_killed
from tests.ledger_rows import accept, new_event
from tests.retention.old_rows import AGE, archive_with, make_old, read_all, run_job, select_all

IDS = "select id from inbound_events order by id"


class Failing(FolderStore):
    """A folder whose ``fails``-th call is the last one before the process dies."""

    def __init__(self, folder: Path, fails: int, *, after: bool) -> None:
        super().__init__(folder)
        self._left, self._after = fails, after

    @contextmanager
    def _step(self) -> Iterator[None]:
        self._left -= 1
        if not self._left and not self._after:
            raise RetryLater("archive.unavailable", "pulled the plug")
        yield
        if not self._left:
            raise RetryLater("archive.unavailable", "pulled the plug")

    def put(self, key: str, data: bytes, retain_until: datetime | None = None) -> None:
        with self._step():
            return super().put(key, data, retain_until)

    def get(self, key: str) -> bytes:
        with self._step():
            return super().get(key)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", [1, 2])
def test_a_crash_at_any_step_loses_nothing_and_archives_nothing_twice(
    shop: Engine, archive: FolderStore, tmp_path: Path, step: int, after: bool
) -> None:
    make_old(shop)
    before = select_all(shop, IDS)

    with pytest.raises(RetryLater, match="pulled the plug"):
        archive_with(Failing(tmp_path / "archive", step, after=after))

    assert select_all(shop, IDS) == before
    assert read_all(shop) == ({}, {})
    archive_with(archive)
    events, _ = read_all(shop)
    assert sorted([*events, *select_all(shop, IDS)]) == before
    assert len(archive.find_keys("ledger/")) == 1


def test_a_crash_in_the_deleting_transaction_is_finished_from_the_stored_object(
    shop: Engine, archive: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(shop)
    before = select_all(shop, IDS)
    with monkeypatch.context() as patch, pytest.raises(DBAPIError, match="division by zero"):
        patch.setattr("services.retention.events._FINISH", "select 1/0")
        archive_with(archive)
    assert select_all(shop, IDS) == before
    stored = archive.find_keys("ledger/")

    archive_with(archive)

    assert archive.find_keys("ledger/") == stored
    assert len(read_all(shop)[0]) == 12


class Changing(FolderStore):
    """A folder that calls ``change`` when an object is stored."""

    def __init__(self, folder: Path, change: Callable[[], object]) -> None:
        super().__init__(folder)
        self._change = change

    def put(self, key: str, data: bytes, retain_until: datetime | None = None) -> None:
        super().put(key, data, retain_until)
        self._change()


@pytest.mark.parametrize(
    "change",
    [
        "update inbound_events set body = '{}' where id = 3",
        "update inbound_events set duplicate_count = 1 where id = 3",
        "update work_queue set status = 'pending' where event_id = 3",
    ],
)
def test_an_event_that_changes_while_it_is_archived_is_not_deleted(
    shop: Engine, archive: FolderStore, tmp_path: Path, change: str
) -> None:
    make_old(shop)

    def apply() -> None:
        with transaction(shop) as tx:
            tx.execute(text(change))

    archive_with(Changing(tmp_path / "archive", apply))

    assert 3 in select_all(shop, IDS)
    assert 3 not in read_all(shop)[0]
    assert select_all(shop, "select count(*) from work_queue where event_id = 3") == [1]


class Late(FolderStore):
    """A folder that calls ``act`` before it stores its first object."""

    def __init__(self, folder: Path, act: Callable[[], object]) -> None:
        super().__init__(folder)
        self._act = [act]

    def put(self, key: str, data: bytes, retain_until: datetime | None = None) -> None:
        if self._act:
            self._act.pop()()
        super().put(key, data, retain_until)


@pytest.mark.parametrize("goes_on", [True, False], ids=["archives itself", "stops"])
def test_a_second_run_that_drops_the_planned_archive_leaves_no_event_without_one(
    shop: Engine, archive: FolderStore, tmp_path: Path, *, goes_on: bool
) -> None:
    make_old(shop)
    before = select_all(shop, IDS)

    def drop() -> None:
        if goes_on:
            archive_with(archive)
        else:
            with transaction(shop) as tx:
                tx.execute(text("delete from event_archives where stored_at is null"))

    archive_with(Late(tmp_path / "archive", drop))

    assert sorted([*read_all(shop)[0], *select_all(shop, IDS)]) == before
    archive_with(archive)
    assert len(read_all(shop)[0]) == 12


def test_a_run_whose_archive_another_run_finished_in_part_keeps_its_list(
    shop: Engine, archive: FolderStore, tmp_path: Path
) -> None:
    make_old(shop)
    before = select_all(shop, IDS)

    def finish_without_event_3() -> None:
        with transaction(shop) as tx:
            tx.execute(text("select from inbound_events where id = 3 for update"))
            archive_with(archive)

    archive_with(Changing(tmp_path / "archive", finish_without_event_3))

    assert sorted([*read_all(shop)[0], *select_all(shop, IDS)]) == before
    assert 3 in select_all(shop, IDS)


class Inserting(FolderStore):
    """A folder that calls ``insert`` before and after each object is stored and read."""

    def __init__(self, folder: Path, insert: Callable[[], object]) -> None:
        super().__init__(folder)
        self._insert = insert

    def put(self, key: str, data: bytes, retain_until: datetime | None = None) -> None:
        self._insert()
        super().put(key, data, retain_until)
        self._insert()

    def get(self, key: str) -> bytes:
        self._insert()
        data = super().get(key)
        self._insert()
        return data


def test_an_event_that_arrives_while_an_archive_is_stored_and_read_is_archived_by_a_later_piece_or_run(
    shop: Engine, archive: FolderStore, tmp_path: Path, owner_engine: Engine
) -> None:
    make_old(shop)
    arrived: list[int] = []

    def insert() -> None:
        number = 600 + len(arrived)
        (event,) = accept(shop, new_event(number, topic="no/handler"))
        arrived.append(event.event_id)
        make_old(shop, f"id = {event.event_id}", AGE + timedelta(days=len(arrived) % 2))  # at both ends
        with owner_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as tx:
            tx.execute(text("vacuum (freeze) inbound_events"))

    run = archive_with(Inserting(tmp_path / "archive", insert))

    assert (run.events, len(arrived)) == (12, 4)
    assert set(arrived) <= set(select_all(shop, IDS))
    assert archive_with(archive).events == 4
    assert set(arrived) < set(read_all(shop)[0])


def test_files_of_killed_writes_are_deleted_after_a_day(
    shop: Engine, archive: FolderStore, tmp_path: Path
) -> None:
    make_old(shop)
    assert not run_killed(shop, lambda: archive.put("privacy/shop-1/x.json", b"Ada"), 1)
    (killed,) = (tmp_path / "archive").rglob(".put-*")
    young = killed.with_name(".put-young")
    young.touch()
    assert run_job(shop)["leftovers_deleted"] == 0
    long_ago = (utc_now() - timedelta(days=1, minutes=1)).timestamp()
    os.utime(killed, (long_ago, long_ago))

    assert run_job(shop)["leftovers_deleted"] == 1

    assert (killed.exists(), young.exists()) == (False, True)
    assert len(read_all(shop)[0]) == 12


def test_claims_wait_for_no_transaction_of_the_job(shop: Engine, archive: FolderStore) -> None:
    ready = [accept(shop, new_event(number))[0].event_id for number in (600, 601)]
    make_old(shop, f"id not in ({ready[0]}, {ready[1]})")
    claims: list[int] = []

    @contextmanager
    def begin() -> Iterator[Connection]:
        with transaction(shop) as tx:
            yield tx
            with transaction(shop) as other:
                other.execute(text("set local lock_timeout = '100ms'"))
                claims.append(len(claim_transactional(other, TOPICS["order_ingest"], utc_now()).items))

    run = ArchiveRun(
        begin=begin, store=archive, now=utc_now(), retain_until=None, by="job retention", request_id="r-1"
    )
    archive_old_events(run, utc_now() - timedelta(days=90), lambda: False)
    for rule in RULES:
        delete_old_rows(begin, rule, utc_now() - timedelta(days=90), utc_now(), lambda: False)

    assert run.events == 12
    assert set(claims) == {2}
    assert len(claims) >= len(RULES) + 3
