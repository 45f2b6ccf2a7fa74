"""A shop with the processed data of two customers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.settings import get_settings
from services.providers.object_store import FolderStore
from tests.privacy.customers import OWNER, history, process_events
from tests.shopify.sample_payloads import add_shop


@pytest.fixture
def archive(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FolderStore]:
    """Archive store in a folder of the test."""
    monkeypatch.setenv("ARCHIVE_URL", f"file://{tmp_path}/archive")
    get_settings.cache_clear()
    yield FolderStore(tmp_path / "archive")
    get_settings.cache_clear()


@pytest.fixture
def shop(engine: Engine, archive: FolderStore) -> Engine:
    """Process all events of John and some of Jane with the real runner."""
    add_shop(engine)
    with transaction(engine) as tx:
        tx.execute(text("update shop_config set owner_email = :mail"), {"mail": OWNER})
    process_events(engine, *history())
    return engine
