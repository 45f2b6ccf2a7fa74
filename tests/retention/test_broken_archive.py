"""A broken object of a planned archive stops no run: its events are archived again."""

import gzip
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.core.errors import Refused, RetryLater
from services.providers.object_store import FolderStore
from tests.retention.old_rows import archive_with, make_old, read_all, run_job, select_all
from tests.retention.test_archive_crash import IDS, Failing


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-9],
        lambda data: b"<html>503</html>",
        lambda data: gzip.compress(gzip.decompress(data)[:-9]),
        lambda data: gzip.compress(gzip.decompress(data).replace(b'"sealed"', b'"x"')),
        lambda data: gzip.compress(
            gzip.decompress(data).replace(b'{"id"', b'[{"id"').replace(b"}\n", b"}]\n")
        ),
    ],
)
def test_a_planned_archive_whose_object_is_broken_is_dropped_and_its_events_archived_again(
    shop: Engine, archive: FolderStore, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    make_old(shop)
    with pytest.raises(RetryLater):
        archive_with(Failing(tmp_path / "archive", 1, after=True))
    (key,) = archive.find_keys("ledger/")
    whole = archive.get(key)
    archive.delete(key)
    archive.put(key, damage(whole))

    stats = run_job(shop)

    assert (stats["archives_dropped"], stats["events_archived"]) == (1, 12)
    assert len(read_all(shop)[0]) == 12
    assert run_job(shop)["archives_dropped"] == 0


class Altering(FolderStore):
    """A folder that stores less than it gets."""

    def put(self, key: str, data: bytes, retain_until: datetime | None = None) -> None:
        super().put(key, data[:-9], retain_until)


def test_after_the_store_altered_an_object_the_named_command_archives_its_events(
    shop: Engine, archive: FolderStore, tmp_path: Path
) -> None:
    make_old(shop)
    before = select_all(shop, IDS)

    with pytest.raises(Refused, match="`fleet jobs run retention --again` archives it again") as caught:
        archive_with(Altering(tmp_path / "archive"))

    assert caught.value.code == "retention.archive_broken"
    assert select_all(shop, IDS) == before
    assert run_job(shop)["events_archived"] == 12
