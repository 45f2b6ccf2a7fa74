"""``python -m services.audit.offline FILE``: verify an export or an archive without a database.

Needs no settings and no environment: only Python, orjson, and cryptography for the signatures.
Exit codes: 0 verified, 1 altered, 2 the file cannot be read.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from services.audit.diagnose import AuditFinding, diagnose
from services.audit.jsonl import FileInvalid, canonical_json, read_lines
from services.audit.rehash import ChainPosition, ChainRow, RowTuple, walk
from services.audit.signing import Checkpoint, SignaturesUnavailable, is_signed

AT_ONCE = 5000
Print = Callable[[str], object]


def verify_file(path: Path, public_key: str, report: Print) -> list[AuditFinding]:
    """Return the faults of the events in the file; raise ``FileInvalid`` if it cannot be read.

    Only signatures of ``public_key`` count; without one, the file's own key is trusted, and printed.
    """
    with path.open("rb") as file:
        lines = read_lines(file)
        header: Mapping[str, Any] = next(lines)
        expected = {chain["shop_id"]: chain for chain in header["chains"]}
        findings = _check_signatures(header, public_key, report)
        signed = _read_signed(header)
        for shop_id, events in groupby(lines, key=lambda event: event[0]):
            chain = expected.pop(shop_id, None)
            if chain is None:
                findings.append(AuditFinding("inserted", shop_id, 0, "the header has no such chain"))
                continue
            found = _verify_chain(chain, (row for _, row in events), signed.get(shop_id, {}), path)
            report(
                f"{_name(shop_id)}: rows {chain['first_seq']} to {chain['last_seq']}: {found or 'verified'}"
            )
            findings += [found] if found else []
        for shop_id, chain in expected.items():
            if chain["last_seq"] >= chain["first_seq"]:
                findings.append(
                    AuditFinding("missing", shop_id, chain["first_seq"], "the file has none of its rows")
                )
    return findings


def _verify_chain(
    chain: Mapping[str, Any], rows: Iterator[RowTuple], signed: Mapping[int, str], path: Path
) -> AuditFinding | None:
    shop_id = chain["shop_id"]
    place = ChainPosition(chain["first_seq"] - 1, chain["first_prev_hash"])
    while block := list(islice(rows, AT_ONCE)):
        place, broken = walk(block, shop_id, place)
        if broken is not None:
            return diagnose(shop_id, place, broken, FileChain(path, shop_id))
        for seq, *_, row_hash in block:
            if signed.get(seq, row_hash) != row_hash:
                return AuditFinding("rewritten", shop_id, seq, f"its hash was {signed[seq]} in a checkpoint")
    if place != ChainPosition(chain["last_seq"], chain["last_hash"]):
        detail = f"the file ends with row {place.seq}, its header says {chain['last_seq']}"
        return AuditFinding("missing", shop_id, place.seq + 1, detail)
    return None


def _check_signatures(header: Mapping[str, Any], public_key: str, report: Print) -> list[AuditFinding]:
    if "signature" not in header:
        report("not signed: an event of the chain has the SHA-256 of an archive's manifest")
        return []
    try:
        return _find_forged(header, public_key, report)
    except SignaturesUnavailable as fault:
        report(f"the signatures were NOT checked: {fault}")
        return []


def _find_forged(header: Mapping[str, Any], public_key: str, report: Print) -> list[AuditFinding]:
    unsigned = {name: value for name, value in header.items() if name != "signature"}
    key = public_key or header["public_key"]
    if not is_signed(canonical_json(unsigned), key, header["signature"]):
        return [
            AuditFinding(
                "altered", None, 0, f"its signature is not of the key {key[:16]}...", subject="the header"
            )
        ]
    report(
        f"signed with {key}" + ("" if public_key else ": compare it with what `fleet audit anchor` prints")
    )
    return [
        AuditFinding(
            "altered",
            point["shop_id"],
            point["seq"],
            "its signature is not that of this head",
            subject="a checkpoint",
        )
        for point in header["checkpoints"]
        if not Checkpoint(**point).is_genuine()
    ]


def _read_signed(header: Mapping[str, Any]) -> dict[int | None, dict[int, str]]:
    """Return the signed hashes, by chain and row number."""
    signed: dict[int | None, dict[int, str]] = {}
    for point in header.get("checkpoints", ()):
        signed.setdefault(point["shop_id"], {})[point["seq"]] = point["hash"]
    return signed


class FileChain:
    """One chain of a file, for ``diagnose``; reads the file again."""

    def __init__(self, path: Path, shop_id: int | None) -> None:
        self._path, self._shop_id = path, shop_id

    def find_at(self, seq: int) -> ChainRow | None:
        """Return the row numbered ``seq``."""
        return next((row for row in self._rows() if row.seq == seq), None)

    def find_after(self, prev_hash: str) -> Sequence[ChainRow]:
        """Return up to 10 rows whose ``prev_hash`` is this one."""
        return list(islice((row for row in self._rows() if row.prev_hash == prev_hash), 10))

    def _rows(self) -> Iterator[ChainRow]:
        with self._path.open("rb") as file:
            lines = read_lines(file)
            next(lines)
            yield from (ChainRow._make((*row, None)) for shop_id, row in lines if shop_id == self._shop_id)


def _name(shop_id: int | None) -> str:
    return "the fleet's chain" if shop_id is None else f"the chain of shop {shop_id}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify a file and print the result; return the exit code."""
    parser = ArgumentParser(prog="python -m services.audit.offline", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="an export or an archive, .jsonl.gz")
    parser.add_argument("--public-key", default="", metavar="HEX", help="only this key's signatures count")
    args = parser.parse_args(arguments)
    try:
        findings = verify_file(args.file, args.public_key, lambda text: sys.stdout.write(f"{text}\n"))
    except (FileInvalid, OSError) as fault:
        sys.stderr.write(f"{args.file}: {fault}\n")
        return 2
    except (LookupError, TypeError, AttributeError) as fault:
        sys.stderr.write(f"{args.file}: its header is incomplete: {fault!r}\n")
        return 2
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write("altered\n" if findings else "verified\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
