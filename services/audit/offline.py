"""``python -m services.audit.offline FILE``: verify an export or an archive without a database.

Needs no settings and no environment: only Python, orjson, and cryptography for the signatures.
Exit codes: 0 verified, 1 altered, 2 the file cannot be read.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from services.audit.chain import ChainPosition, RowTuple, verify_rows
from services.audit.diagnose import AuditFinding, ChainRows, diagnose
from services.audit.jsonl import AuditFileInvalid, read_lines
from services.audit.signing import Checkpoint, SignaturesUnavailable, canonical_json, is_signed

CHUNK_ROWS = 5000
Print = Callable[[str], object]


def verify_file(path: Path, public_key: str, report: Print) -> list[AuditFinding]:
    """Return the faults of the events in the file; raise ``AuditFileInvalid`` if it cannot be read.

    Only signatures of ``public_key`` count; if it is empty, the file's own key is trusted, and printed.
    """
    with path.open("rb") as file:
        lines = read_lines(file)
        header: Mapping[str, Any] = next(lines)
        expected = {chain["shop_id"]: chain for chain in header["chains"]}
        try:
            findings = _find_forged(header, public_key, report)
        except SignaturesUnavailable as fault:
            report(f"the signatures were NOT checked: {fault}")
            findings = []
        signed: dict[int | None, dict[int, str]] = {}
        for point in header.get("checkpoints", ()):
            signed.setdefault(point["shop_id"], {})[point["seq"]] = point["hash"]
        for shop_id, events in groupby(lines, key=lambda event: event[0]):
            chain = expected.pop(shop_id, None)
            if chain is None:
                findings.append(AuditFinding("inserted", shop_id, 0, "the header has no such chain"))
                continue
            found = _verify_chain(chain, (row for _, row in events), signed.get(shop_id, {}), path)
            name = "the fleet's chain" if shop_id is None else f"the chain of shop {shop_id}"
            report(f"{name}: rows {chain['first_seq']} to {chain['last_seq']}: {found or 'verified'}")
            findings += [found] if found else []
        findings += [
            AuditFinding("missing", shop_id, chain["first_seq"], "the file has none of its rows")
            for shop_id, chain in expected.items()
            if chain["last_seq"] >= chain["first_seq"]
        ]
    return findings


def _verify_chain(
    chain: Mapping[str, Any], rows: Iterator[RowTuple], signed: Mapping[int, str], path: Path
) -> AuditFinding | None:
    shop_id = chain["shop_id"]
    place = ChainPosition(chain["first_seq"] - 1, chain["first_prev_hash"])
    while block := list(islice(rows, CHUNK_ROWS)):
        place, broken = verify_rows(block, shop_id, place)
        if broken is not None:
            return diagnose(shop_id, place, broken, ChainRows(partial(_read_rows, path, shop_id)))
        for seq, *_, row_hash in block:
            if signed.get(seq, row_hash) != row_hash:
                return AuditFinding("rewritten", shop_id, seq, f"its hash was {signed[seq]} in a checkpoint")
    if place != ChainPosition(chain["last_seq"], chain["last_hash"]):
        detail = f"the file ends with row {place.seq} instead of {chain['last_seq']}"
        return AuditFinding("missing", shop_id, place.seq + 1, detail)
    return None


def _find_forged(header: Mapping[str, Any], public_key: str, report: Print) -> list[AuditFinding]:
    if "signature" not in header:
        report("not signed: an event of the chain has the SHA-256 of an archive's manifest")
        return []
    unsigned = {name: value for name, value in header.items() if name != "signature"}
    key = public_key or header["public_key"]
    if not is_signed(canonical_json(unsigned), key, header["signature"]):
        detail = f"its signature is not of the key {key[:16]}..."
        return [AuditFinding("altered", None, 0, detail, subject="the header")]
    advice = "" if public_key else ": compare it with what `fleet audit anchor` prints"
    report(f"signed with {key}{advice}")
    detail = "its signature is not that of this head"
    return [
        AuditFinding("altered", point.shop_id, point.seq, detail, subject="a checkpoint")
        for point in (Checkpoint(**fields) for fields in header["checkpoints"])
        if not point.is_genuine()
    ]


def _read_rows(path: Path, shop_id: int | None) -> Iterator[RowTuple]:
    with path.open("rb") as file:
        lines = read_lines(file)
        next(lines)
        yield from (row for found, row in lines if found == shop_id)


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify a file and print the result; return the exit code."""
    parser = ArgumentParser(prog="python -m services.audit.offline", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="an export or an archive, .jsonl.gz")
    parser.add_argument("--public-key", default="", metavar="HEX", help="only this key's signatures count")
    args = parser.parse_args(arguments)
    try:
        findings = verify_file(args.file, args.public_key, lambda text: sys.stdout.write(f"{text}\n"))
    except (AuditFileInvalid, OSError, LookupError, TypeError, AttributeError) as fault:
        is_known = isinstance(fault, AuditFileInvalid | OSError)
        sys.stderr.write(f"{args.file}: {fault if is_known else f'its header is incomplete: {fault!r}'}\n")
        return 2
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write("altered\n" if findings else "verified\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
