"""The nightly verification reads every manifest, and each archive body in turn."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.audit.archive_reader import Archive
from services.audit.checkpoints import record_checkpoints
from services.audit.queries import find_ends
from services.audit.signing import Signer
from services.audit.verify import TURN_DAYS, VerifyOptions
from services.core.db import transaction
from services.providers.object_store import FolderStore
from tests.audit.chains import append_chain, archive_old
from tests.audit.test_manifests import NOW, OLD, SIGNER, get_archives, verify


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_archives_verify_after_any_number_of_key_rotations(engine: Engine, store: FolderStore) -> None:
    first = 1
    for number, key in enumerate("abcd"):
        then = NOW - timedelta(days=600 - 100 * number)
        with transaction(engine) as tx:
            append_chain(tx, 3, 1, then, first=first)
        archive_old(engine, 1, store, rotated(key), then + timedelta(days=95))
        first += 4
    assert len(get_archives(engine)) == 4

    assert verify(engine, store, rotated("d"), archives=True).findings == []
    assert verify(engine, store, rotated("e"), archives=True).findings == []
    assert "neither our current key" in str(verify(engine, store, rotated("f"), archives=True).findings[0])
    with transaction(engine) as tx:
        ends = find_ends(tx, 1)
        assert ends is not None
        record_checkpoints(tx, [(1, ends[1])], rotated("f"), NOW)
    assert verify(engine, store, rotated("f"), archives=True).findings == []


def rotated(key: str) -> Signer:
    """Return the signer of ``key`` whose previous key is the letter before it."""
    return Signer(key * 32, previous=chr(ord(key) - 1) * 32)


def test_each_archive_body_is_read_at_least_twice_in_thirty_nights() -> None:
    first = date(2026, 2, 20).toordinal()
    for archive_id in range(1, 100):
        archive = Archive._make([archive_id, *[None] * (len(Archive._fields) - 1)])
        nights = [day for day in range(first, first + 30) if VerifyOptions(turn=day).reads_body(archive)]
        assert len(nights) == 2
        assert nights[1] - nights[0] == TURN_DAYS
    assert not VerifyOptions(full=True, manifests=True).reads_body(archive)
    assert VerifyOptions(archives=True).reads_body(archive)


def damage(store: FolderStore, kind: str) -> None:
    for key in store.find_keys("events/"):
        if key.endswith(kind):
            path = Path(store._folder) / key
            path.write_bytes(path.read_bytes()[:-4] + b"xxxx")


@pytest.mark.parametrize("chain", [1, None])
def test_altered_body_is_found_in_its_turn_and_altered_manifest_every_night(
    engine: Engine, store: FolderStore, chain: int | None
) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 5, chain, OLD)
    archive_old(engine, chain, store, SIGNER, NOW)
    today = NOW.toordinal()

    def count_nights() -> int:
        days = range(today, today + TURN_DAYS)
        return sum(bool(verify(engine, store, turn=day).findings) for day in days)

    assert count_nights() == 0
    damage(store, ".gz")
    assert count_nights() == 1
    damage(store, ".json")
    assert count_nights() == TURN_DAYS
