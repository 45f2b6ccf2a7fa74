"""Rows of the audit tables are read back by column name."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, text

from services.audit.append import AuditEntry, Mutation, append_now
from services.audit.archive_reader import Archive, list_archives
from services.audit.chain import ChainPosition, ChainRow, format_utc, mutations_text
from services.audit.checkpoints import list_checkpoints, record_checkpoints
from services.audit.queries import StoredChain, count_events, find_ends, stream_rows
from services.audit.signing import Signer
from services.core.clock import utc_now
from services.core.db import transaction
from services.providers.object_store import FolderStore
from tests.audit.chains import append_chain, archive_old

NOW = datetime(2026, 11, 20, 12, 0, 0, 5, tzinfo=UTC)
SIGNER = Signer("k" * 32)
CHANGE = Mutation("orders", "7", "paid", {"status": "open"}, {"status": "paid"})


def test_an_event_is_read_back_by_name_from_every_finder(engine: Engine) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 2, shop_id=5)
        append_chain(tx, 1, shop_id=6)
        event_id = append_now(tx, AuditEntry(5, "ada", "order.paid", "r-77", [CHANGE], 91), NOW)
    with transaction(engine) as tx:
        stored = tx.execute(text("select * from audit_events where id = :id"), {"id": event_id}).one()
        row = StoredChain(tx, 5).find_at(3)
        (streamed,) = next(stream_rows(tx, 5, after=2))
        ends = find_ends(tx, 5)
        (shown,) = tx.execute(text("select * from audit_mutations where event_id = :id"), {"id": event_id})
        after = StoredChain(tx, 5).find_after(stored.prev_hash)
        counted = count_events(tx, "order.paid", NOW - timedelta(days=1))

    expected = ChainRow(
        seq=3, at=format_utc(NOW), staff_label="ada", action="order.paid", request_id="r-77", work_id=91,
        mutations=mutations_text([CHANGE]), prev_hash=stored.prev_hash, hash=stored.hash, id=event_id,
    )  # fmt: skip
    assert (stored.shop_id, stored.seq, stored.at, stored.work_id) == (5, 3, NOW, 91)
    assert (stored.staff_label, stored.action, stored.request_id) == ("ada", "order.paid", "r-77")
    assert len({stored.prev_hash, stored.hash}) == 2
    assert row == expected
    assert after == [expected]
    assert ChainRow(*streamed, id=event_id) == expected
    assert ends == (1, ChainPosition(seq=3, hash=stored.hash))
    assert counted == [(5, NOW.date(), 1, 3)]
    assert (shown.table_name, shown.row_id, shown.summary) == ("orders", "7", "paid")
    assert (shown.before, shown.after, shown.place) == ({"status": "open"}, {"status": "paid"}, 1)


def test_a_checkpoint_is_read_back_by_name(engine: Engine) -> None:
    with transaction(engine) as tx:
        assert record_checkpoints(tx, [(5, ChainPosition(3, "h" * 64))], SIGNER, NOW) == 1
    with transaction(engine) as tx:
        ((row_id, found),) = list_checkpoints(tx, 5)
        stored = tx.execute(text("select * from audit_checkpoints")).one()

    assert (stored.id, stored.shop_id, stored.seq, stored.hash) == (row_id, 5, 3, "h" * 64)
    assert (found.shop_id, found.seq, found.hash, found.at) == (5, 3, "h" * 64, format_utc(stored.at))
    assert (found.public_key, found.signature) == (stored.public_key, stored.signature)
    assert (stored.at, stored.public_key) == (NOW, SIGNER.public_key)
    assert found.is_genuine()


def test_an_archive_is_read_back_by_name(engine: Engine, tmp_path: Path) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 4, 5, utc_now() - timedelta(days=100))
    archive_old(engine, 5, FolderStore(tmp_path), SIGNER, utc_now(), may_delete=False)

    with transaction(engine) as tx:
        (found,) = list_archives(tx, 5)
        stored = tx.execute(text("select * from audit_archives")).one()
        hashes = {row.seq: row for row in tx.execute(text("select * from audit_events"))}
    assert found == Archive(**{name: stored._mapping[name] for name in Archive._fields})
    assert (found.shop_id, found.first_seq, found.last_seq, found.event_seq) == (5, 1, 4, 5)
    assert (found.first_prev_hash, found.last_hash) == (hashes[1].prev_hash, hashes[4].hash)
    assert (found.object_key[-9:], found.manifest_key[-14:]) == (".jsonl.gz", ".manifest.json")
    objects = {key: (tmp_path / key).read_bytes() for key in (found.object_key, found.manifest_key)}
    assert found.object_bytes == len(objects[found.object_key])
    assert found.object_sha256 != found.manifest_sha256
