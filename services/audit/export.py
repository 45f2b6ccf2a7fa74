"""Export: one file of events that can be verified without a database or settings."""

from collections.abc import Sequence
from datetime import datetime
from typing import IO, Any

from sqlalchemy import Connection

from services.audit.archive_reader import check_links, list_archives
from services.audit.chain import BEGINNING, format_utc
from services.audit.checkpoints import list_checkpoints
from services.audit.jsonl import FORMAT, write_lines
from services.audit.queries import StoredChain, find_ends, stream_rows, use_snapshot
from services.audit.signing import Signer, sign_document

_ARCHIVE = ("first_seq", "last_seq", "object_key", "object_sha256", "manifest_sha256")


def export_chains(
    tx: Connection, shop_ids: Sequence[int | None], out: IO[bytes], signer: Signer, now: datetime
) -> list[dict[str, Any]]:
    """Write the events of the chains to ``out``, with signed heads; return the header's line of each chain.

    Reads one snapshot: ``tx`` must be new. The header names archived events with their sums; they are not in
    the file. Verifies nothing, so the file has every stored row, also with an invalid number.
    """
    use_snapshot(tx)
    header = _header(tx, shop_ids, signer, now)
    chains: list[dict[str, Any]] = header["chains"]
    read = ((chain["shop_id"], stream_rows(tx, chain["shop_id"])) for chain in chains)
    write_lines(out, header, ((shop_id, row) for shop_id, blocks in read for rows in blocks for row in rows))
    return chains


def _header(tx: Connection, shop_ids: Sequence[int | None], signer: Signer, now: datetime) -> dict[str, Any]:
    chains = []
    checkpoints = []
    for shop_id in shop_ids:
        archives = list_archives(tx, shop_id)
        first, head = find_ends(tx, shop_id) or (1, BEGINNING)
        start, _ = check_links(StoredChain(tx, shop_id), archives, first)
        chains.append(
            {
                "shop_id": shop_id,
                "first_seq": start.seq + 1,
                "first_prev_hash": start.hash,
                "last_seq": head.seq,
                "last_hash": head.hash,
                "archives": [{name: getattr(one, name) for name in _ARCHIVE} for one in archives],
            }
        )
        checkpoints += [found._asdict() for _, found in list_checkpoints(tx, shop_id)]
    content = {"made_at": format_utc(now), "chains": chains, "checkpoints": checkpoints}
    return sign_document(FORMAT, content, signer)
