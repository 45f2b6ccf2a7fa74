"""Anchors: the signed heads of all chains, in the archive store. Each has the hash of the previous anchor.

An anchor contradicts a chain that was rewritten as a whole. A removed anchor breaks the sequence of anchors,
and an event of the fleet's own chain names the newest one.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from services.audit.chain import AuditEntry, ChainPosition, Mutation, format_utc
from services.audit.checkpoints import SignedHead
from services.audit.diagnose import AuditFinding, FindingKind
from services.audit.queries import find_ends, list_chains
from services.audit.signing import Signer, canonical_json, read_signed, sign_document
from services.audit.store import ObjectMissing, ObjectStore
from services.core.counts import format_count

ANCHOR_ACTION = "audit.anchor"
ANCHOR_FORMAT = "shopfleet-anchor/1"
PREFIX = "anchors/"
_KEY = re.compile(r"anchors/[0-9]{8}T[0-9]{6}[.][0-9]{6}Z[.]json")

_NAMED = """
select seq, mutations from audit_events where shop_id is null and action = %(action)s
 order by seq desc limit 1
"""


class Anchor(NamedTuple):
    key: str
    data: bytes
    heads: int

    @property
    def sha256(self) -> str:
        """The SHA-256 of ``data``; the next anchor and the fleet's chain contain it."""
        return _sha256(self.data)


def list_heads(tx: Connection) -> list[tuple[int | None, ChainPosition]]:
    ends = [(shop_id, find_ends(tx, shop_id)) for shop_id in list_chains(tx)]
    return [(shop_id, found[1]) for shop_id, found in ends if found is not None]


def make_anchor(
    heads: Sequence[tuple[int | None, ChainPosition]], store: ObjectStore, signer: Signer, now: datetime
) -> Anchor:
    """Return the signed anchor of ``heads``, which names the newest one in ``store``. Stores nothing."""
    keys = store.find_keys(PREFIX)
    content = {
        "at": format_utc(now),
        "heads": [{"shop_id": shop_id, "seq": seq, "hash": last} for shop_id, (seq, last) in heads],
        "previous": {"key": keys[-1], "sha256": _sha256(store.get(keys[-1]))} if keys else None,
    }
    data = canonical_json(sign_document(ANCHOR_FORMAT, content, signer))
    return Anchor(f"{PREFIX}{now:%Y%m%dT%H%M%S.%fZ}.json", data, len(heads))


def anchor_entry(anchor: Anchor, store: ObjectStore, *, by: str, request_id: str) -> AuditEntry:
    """Return the entry of the fleet's own chain about a stored ``anchor``."""
    after = {"key": anchor.key, "sha256": anchor.sha256, "heads": anchor.heads, "store": store.describe()}
    summary = f"anchored {format_count(anchor.heads, 'head')} as {anchor.key}"
    return AuditEntry(
        None, by, ANCHOR_ACTION, request_id, [Mutation("anchors", anchor.key, summary, None, after)]
    )


def read_anchors(
    store: ObjectStore, signer: Signer, *, newest: int | None
) -> tuple[dict[int | None, list[SignedHead]], list[AuditFinding], int]:
    """Return the signed heads of each chain, the faults of the anchors, and how many were read.

    An anchor is trusted when it is signed with the current or the previous key, or when the next anchor is
    trusted and has its SHA-256; so anchors outlive key rotations. ``newest`` limits how many are read.
    """
    keys = store.find_keys(PREFIX)
    keys = keys[-newest:] if newest else keys
    signed_heads: dict[int | None, list[SignedHead]] = {}
    findings: list[AuditFinding] = []
    trusted: dict[str, str] = {}
    for key in reversed(keys):
        data = store.get(key)
        if key in trusted and _sha256(data) != trusted[key]:
            findings.append(_finding("altered", key, "the next anchor names another SHA-256"))
            continue
        document, fault = read_signed(data, ANCHOR_FORMAT, signer, is_trusted=key in trusted)
        if fault:
            findings.append(_finding("altered", key, fault))
            continue
        source = f"the anchor of {document['at']}"
        for head in document["heads"]:
            known = signed_heads.setdefault(head["shop_id"], [])
            # A chain without new events has the same head in many anchors: one is enough.
            if not known or known[-1][:2] != (head["seq"], head["hash"]):
                known.append(SignedHead(head["seq"], head["hash"], source))
        if previous := document["previous"]:
            trusted[previous["key"]] = previous["sha256"]
    findings += [
        _finding("missing", key, "the next anchor names it, but it is missing")
        for key in sorted(trusted.keys() - set(keys))
        if _find_sha256(store, key) is None
    ]
    return signed_heads, findings, len(keys)


def check_named_anchor(tx: Connection, store: ObjectStore) -> list[AuditFinding]:
    """Return a finding if the newest anchor in the fleet's chain is missing or changed in the store."""
    row = tx.exec_driver_sql(_NAMED, {"action": ANCHOR_ACTION}).first()
    if row is None:
        return []
    try:
        after = orjson.loads(row.mutations)[0]["after"]
        key, sha256 = str(after["key"]), str(after["sha256"])
    except (ValueError, LookupError, TypeError):  # altered: ``verify_rows`` finds the row
        return []
    names = f"row {row.seq} of the fleet's chain names"
    if not _KEY.fullmatch(key):
        return [_finding("altered", key[:200], f"{names} it, which is not a valid key")]
    found = _find_sha256(store, key)
    if found is None:
        return [_finding("missing", key, f"{names} it; it is not in {store.describe()}")]
    detail = f"{names} the SHA-256 {sha256}, it has {found}"
    return [] if found == sha256 else [_finding("altered", key, detail)]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _find_sha256(store: ObjectStore, key: str) -> str | None:
    try:
        return _sha256(store.get(key))
    except ObjectMissing:
        return None


def _finding(kind: FindingKind, key: str, detail: str) -> AuditFinding:
    return AuditFinding(kind, None, 0, detail, subject=f"the anchor {key}")
