"""A shop that has worked everything its customers left behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.settings import get_settings
from services.providers.object_store import FolderStore
from tests.privacy.people import OWNER, history, take_in
from tests.shopify.sample_payloads import add_shop


@pytest.fixture
def archive(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FolderStore]:
    """The process's archive store, a folder of the test's own."""
    monkeypatch.setenv("ARCHIVE_URL", f"file://{tmp_path}/archive")
    get_settings.cache_clear()
    yield FolderStore(tmp_path / "archive")
    get_settings.cache_clear()


@pytest.fixture
def shop(engine: Engine, archive: FolderStore) -> Engine:
    """John's whole history and some of Jane's, worked by the real runner."""
    add_shop(engine)
    with transaction(engine) as tx:
        tx.execute(text("update shop_config set owner_email = :mail"), {"mail": OWNER})
    take_in(engine, *history())
    return engine
