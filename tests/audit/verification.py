"""Helpers of the verification tests."""

from collections.abc import Callable

from sqlalchemy import Connection, Engine, text

from services.audit.chain import hash_row
from services.audit.checkpoints import record_checkpoints
from services.audit.diagnose import AuditFinding
from services.audit.signing import Signer
from services.audit.verify import VerifyReport
from services.core.db import transaction
from tests.audit.chains import NOW, altering

SIGNER = Signer("k" * 32)
Verify = Callable[..., VerifyReport]


def sign_heads(engine: Engine, report: VerifyReport, signer: Signer = SIGNER) -> None:
    with transaction(engine) as tx:
        record_checkpoints(tx, [(chain.shop_id, chain.head) for chain in report.chains], signer, NOW)


def only(report: VerifyReport) -> AuditFinding:
    assert len(report.findings) == 1, [str(found) for found in report.findings]
    return report.findings[0]


def alter(owner_engine: Engine, statement: str, **values: object) -> None:
    with altering(owner_engine) as tx:
        assert tx.execute(text(statement), values).rowcount


def rewrite_from(tx: Connection, seq: int, shop_id: int = 1, after: str = "0" * 64) -> None:
    """Rehash every row from ``seq`` on; the first one follows ``after``."""
    from services.audit.queries import StoredChain

    chain = StoredChain(tx, shop_id)
    before = chain.find_at(seq - 1)
    last = before.hash if before else after
    while row := chain.find_at(seq):
        row = row._replace(prev_hash=last)
        last = hash_row(row, shop_id)
        tx.execute(
            text("update audit_events set prev_hash = :prev, hash = :hash where id = :id"),
            {"prev": row.prev_hash, "hash": last, "id": row.id},
        )
        seq += 1
