"""Checkpoints: verified and signed heads in the database, where the next verification may begin.

A signature needs ``SECRET_KEY``; a row alone does not.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.chain import ChainPosition, format_utc
from services.audit.diagnose import AuditFinding
from services.audit.queries import per_chain, query_chain
from services.audit.signing import Checkpoint, Signer, checkpoint_message, unknown_key
from services.core.pg_arrays import arrays

_FIND = per_chain("""
select id, seq, hash, AT_TEXT as at, public_key, signature from audit_checkpoints
 where OF_CHAIN and (seq >= %(first_seq)s or seq < 1) order by seq desc, id desc
""")

_RECORD = """
insert into audit_checkpoints (shop_id, seq, hash, at, public_key, signature)
select nullif(shop_id, 0), seq, hash, %(now)s, %(public_key)s, signature
  from unnest(%(shop_id)s::int[], %(seq)s::bigint[], %(hash)s::text[], %(signature)s::text[])
    as v(shop_id, seq, hash, signature)
on conflict on constraint uq_audit_checkpoints_seq do nothing
"""


class SignedHead(NamedTuple):
    """The hash that a row had, from a trusted ``source``: ``a checkpoint of 2026-11-21T...``."""

    seq: int
    hash: str
    source: str


def list_checkpoints(tx: Connection, shop_id: int | None, first_seq: int = 1) -> list[tuple[int, Checkpoint]]:
    """Return the checkpoints of a chain's rows from ``first_seq`` on, with their ids, newest head first.

    Includes those with a number under 1, which are forged.
    """
    return [
        (row.id, Checkpoint(shop_id, row.seq, row.hash, row.at, row.public_key, row.signature))
        for row in query_chain(tx, _FIND, shop_id, first_seq=first_seq)
    ]


def check_checkpoints(
    shop_id: int | None, checkpoints: Iterable[tuple[int, Checkpoint]], signer: Signer, *, all_of_them: bool
) -> tuple[list[SignedHead], list[AuditFinding]]:
    """Return the heads of trusted checkpoints, newest first, and a finding for each forged one.

    Stops at the newest trusted one unless ``all_of_them``. If a newer one is trusted, skips those signed with
    a key from before the last two rotations.
    """
    signed_heads: list[SignedHead] = []
    findings: list[AuditFinding] = []
    for row_id, found in checkpoints:
        is_known = found.public_key in signer.known_keys
        if not is_known and signed_heads and found.is_genuine():
            continue
        if is_known and found.is_genuine():
            signed_heads.append(SignedHead(found.seq, found.hash, f"a checkpoint of {found.at}"))
            if not all_of_them:
                break
            continue
        detail = "its signature is not that of this head" if is_known else unknown_key(found.public_key)
        findings.append(AuditFinding("altered", shop_id, found.seq, detail, subject=f"checkpoint {row_id}"))
    return signed_heads, findings


def record_checkpoints(
    tx: Connection, heads: Sequence[tuple[int | None, ChainPosition]], signer: Signer, now: datetime
) -> int:
    """Sign the verified ``heads`` and insert them, each once. Returns how many are new."""
    at = format_utc(now)
    rows = [(shop or 0, *place, signer.sign(checkpoint_message(shop, *place, at))) for shop, place in heads]
    values = arrays("shop_id seq hash signature", rows)
    return tx.exec_driver_sql(_RECORD, {**values, "now": now, "public_key": signer.public_key}).rowcount
