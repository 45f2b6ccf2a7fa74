"""Chains for the tests: appended by the product's code, altered by the owner of the tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, Engine, text

from services.audit.append import AuditEntry, append_now
from services.audit.archive import ArchiveResult, archive_chain, open_truncate
from services.audit.chain import (
    FIRST_PREV_HASH,
    ChainRow,
    Mutation,
    event_text,
    format_utc,
    hash_text,
    mutations_text,
)
from services.audit.signing import Signer
from services.audit.store import ObjectStore
from services.core.db import transaction
from services.core.settings import get_settings
from tests.lock_order import UNWATCHED

_CHECKS = text(
    "select conname, replace(pg_get_constraintdef(oid), ' NOT VALID', '') from pg_constraint"
    " where contype = 'c' and conrelid = to_regclass(:table)"
)

NOW = datetime(2026, 11, 20, 12, 0, 0, 5, tzinfo=UTC)


class AuditEvent(NamedTuple):
    """The hashed columns of an event."""

    shop_id: int | None
    seq: int
    at: datetime
    staff_label: str
    action: str
    request_id: str
    work_id: int | None
    mutations: str


def canonical_text(event: AuditEvent) -> str:
    shop_id, seq, at, *rest = event
    return event_text(shop_id, seq, format_utc(at), *rest)  # type: ignore[arg-type]


def hash_event(prev_hash: str, event: AuditEvent) -> str:
    return hash_text(prev_hash, canonical_text(event))


def entry(shop_id: int | None, number: int) -> AuditEntry:
    sold = Mutation(
        "inventory_levels", str(number), f"stock of SKU-{number} 12 -> 9", {"available": 12}, {"available": 9}
    )
    return AuditEntry(shop_id, f'ada "{number}"', "order_ingest", f"r-{number}", [sold])


def append_chain(
    tx: Connection, count: int = 6, shop_id: int | None = 1, now: datetime = NOW, first: int = 1
) -> None:
    """Append ``count`` events, one minute apart."""
    tx.execution_options(**UNWATCHED)
    for number in range(first, first + count):
        append_now(tx, entry(shop_id, number), now + timedelta(minutes=number))


def archive_old(
    engine: Engine,
    shop_id: int | None,
    store: ObjectStore,
    signer: Signer,
    now: datetime,
    *,
    retain_until: datetime | None = None,
    may_delete: bool = True,
) -> ArchiveResult:
    """Archive as the job does: the application role records, the archive role deletes."""
    with open_truncate(get_settings().audit_archive_database_url if may_delete else "") as cut:
        return archive_chain(
            lambda: transaction(engine), shop_id, store, signer, cut, now=now, retain_until=retain_until,
            by="job", request_id="r-1",
        )  # fmt: skip


@contextmanager
def altering(owner_engine: Engine, table: str = "audit_events") -> Iterator[Connection]:
    """Transaction of the owner, without the unique constraint and the checks of ``table``."""
    with owner_engine.begin() as tx:
        checks = tx.execute(_CHECKS, {"table": table}).all()
        tx.execute(text("alter table audit_events drop constraint uq_audit_events_seq"))
        tx.execute(text("alter table audit_events disable trigger audit_events_follow"))
        for name, _ in checks:
            tx.execute(text(f"alter table {table} drop constraint {name}"))
        yield tx
        tx.execute(text("alter table audit_events enable trigger audit_events_follow"))
        for name, check in checks:
            tx.exec_driver_sql(f"alter table {table} add constraint {name} {check} not valid")
        tx.execute(
            text(
                "alter table audit_events add constraint uq_audit_events_seq"
                " unique nulls not distinct (shop_id, seq)"
            )
        )


def make_rows(count: int, shop_id: int | None = 1) -> list[ChainRow]:
    """Return a chain in memory."""
    rows: list[ChainRow] = []
    last = FIRST_PREV_HASH
    for seq in range(1, count + 1):
        made = entry(shop_id, seq)
        event = AuditEvent(
            shop_id, seq, NOW + timedelta(seconds=seq), made.staff_label, made.action, made.request_id,
            seq if seq % 2 else None, mutations_text(made.mutations),
        )  # fmt: skip
        digest = hash_event(last, event)
        rows.append(
            ChainRow(
                seq, format_utc(event.at), event.staff_label, event.action, event.request_id, event.work_id,
                event.mutations, last, digest, seq + 1000,
            )
        )  # fmt: skip
        last = digest
    return rows


@dataclass
class InMemoryChain:
    """A chain in memory with the queries of ``diagnose``."""

    rows: Sequence[ChainRow] = field(default_factory=list)

    def find_at(self, seq: int) -> ChainRow | None:
        return next((row for row in self.rows if row.seq == seq), None)

    def find_after(self, prev_hash: str) -> list[ChainRow]:
        return [row for row in self.rows if row.prev_hash == prev_hash]
