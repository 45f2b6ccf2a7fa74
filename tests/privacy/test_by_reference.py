"""The audit cannot be redacted, so it contains no personal data: a customer is only a number."""

import gzip
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.audit.export import export_chains
from services.audit.queries import list_chains
from services.audit.signing import Signer
from services.audit.verify import VerifyOptions, verify_audit
from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger import runner_transactional
from services.providers.object_store import FolderStore
from tests.audit.chains import archive_old
from tests.privacy.customers import (
    JANES,
    JOHN,
    JOHNS,
    JOHNS_ORDER,
    find_words,
    history,
    process_events,
    request_privacy,
)
from tests.shopify.sample_payloads import add_shop, rows

SIGNER = Signer("k" * 32)


def export(engine: Engine, folder: Path) -> str:
    path = folder / "export.jsonl.gz"
    with transaction(engine) as tx:
        chains = list_chains(tx)
    with path.open("wb") as file, transaction(engine) as tx:
        export_chains(tx, chains, file, SIGNER, utc_now())
    return gzip.decompress(path.read_bytes()).decode()


def archived(store: FolderStore) -> str:
    texts = [store.get(key) for key in store.find_keys("") if not key.startswith("privacy/")]
    assert texts
    return "\n".join((gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode() for data in texts)


def test_exported_chain_contains_no_personal_data(shop: Engine, tmp_path: Path) -> None:
    before = export(shop, tmp_path)
    request_privacy(shop, "customers/data_request", 100)
    request_privacy(shop, "customers/redact", 200)
    after = export(shop, tmp_path)

    for chain in (before, after):
        assert str(JOHNS_ORDER) in chain
        assert f"customer {JOHN}" in chain
        assert find_words(chain, JOHNS + JANES) == set()


def test_archive_contains_no_personal_data_and_verifies_after_the_redaction(
    engine: Engine, archive: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_shop(engine)
    long_ago = utc_now() - timedelta(days=100)
    with monkeypatch.context() as then:
        then.setattr(runner_transactional, "utc_now", lambda: long_ago)
        process_events(engine, *(replace(event, received_at=long_ago) for event in history()))
    archive_old(engine, 1, archive, SIGNER, utc_now())
    before = archived(archive)
    assert str(JOHNS_ORDER) in before
    assert f"customer {JOHN}" in before

    request_privacy(engine, "customers/redact", 200)

    assert archived(archive) == before
    assert find_words(before, JOHNS + JANES) == set()
    with transaction(engine) as tx:
        report = verify_audit(tx, VerifyOptions(full=True, archives=True), SIGNER, archive)
    assert report.findings == []
    assert rows(engine, "select name from customers where customer_id = :id", id=JOHN) == [("",)]
