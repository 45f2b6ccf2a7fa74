"""A crash at any step of archiving loses nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import RetryLater
from services.providers.object_store import FolderStore
from tests.audit.chains import append_chain
from tests.audit.test_archive import NOW, OLD, archive, first_and_head, verify


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


class Failing(FolderStore):
    """A folder whose ``fails``-th call is the last one before the process dies."""

    def __init__(self, folder: Path, fails: int, *, after: bool) -> None:
        super().__init__(folder)
        self.calls, self._fails, self._after = 0, fails, after

    @contextmanager
    def _step(self) -> Iterator[None]:
        self.calls += 1
        if self.calls == self._fails and not self._after:
            raise RetryLater("archive.unavailable", "pulled the plug")
        yield
        if self.calls == self._fails:
            raise RetryLater("archive.unavailable", "pulled the plug")

    def put(self, key: str, data: bytes, retain_until: datetime | None = None) -> None:
        with self._step():
            return super().put(key, data, retain_until)

    def get(self, key: str) -> bytes:
        with self._step():
            return super().get(key)

    def find_keys(self, prefix: str) -> list[str]:
        with self._step():
            return list(super().find_keys(prefix))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(1, 7))
def test_a_crash_at_any_step_loses_nothing_and_the_next_run_finishes(
    engine: Engine, store: FolderStore, tmp_path: Path, step: int, after: bool
) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 8, 1, OLD)
        append_chain(tx, 3, 1, NOW - timedelta(days=1), first=9)
    failing = Failing(tmp_path / "store", step, after=after)

    with pytest.raises(RetryLater, match="pulled the plug"):
        archive(engine, 1, failing)

    assert verify(engine, store, full=True, archives=True).findings == []
    assert first_and_head(engine, 1)[0] == 1
    # In a later night more events are old; the started archive still ends at its first cut.
    archive(engine, 1, store, NOW + timedelta(hours=1))
    assert first_and_head(engine, 1) == (9, 12)
    assert len(store.find_keys("events/")) == 2
    assert verify(engine, store, full=True, archives=True).findings == []
