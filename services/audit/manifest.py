"""Manifest: a signed document in the store with the range of one archive and the sums of its objects.

The signature covers the shop, the range, the hashes at both ends and every object, so a manifest proves no
other range or chain.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from services.audit.chain import TEXT_VERSION
from services.audit.jsonl import canonical_json
from services.audit.signing import Signer, is_signed, unknown_key

MANIFEST_FORMAT = "shopfleet-audit-manifest/2"
_UNSIGNED = "shopfleet-audit-manifest/1"
_RANGE = ("shop_id", "first_seq", "first_prev_hash", "last_seq", "last_hash")


def make_manifest(document: Mapping[str, Any], signer: Signer) -> bytes:
    """Return ``document`` (range, rows, ``objects``) as a signed manifest."""
    made = {
        "format": MANIFEST_FORMAT,
        "text_version": TEXT_VERSION,
        **document,
        "public_key": signer.public_key,
    }
    return canonical_json(made | {"signature": signer.sign(canonical_json(made))})


def find_manifest_fault(
    data: bytes,
    expected: Mapping[str, Any],
    objects: Sequence[Mapping[str, Any]],
    signer: Signer,
    *,
    is_vouched: bool,
) -> str:
    """Return why the manifest ``data`` does not prove the range ``expected`` and its ``objects``, or "".

    A signature of the current or the previous key is valid. One of an older key is valid if ``is_vouched``: a
    trusted hash after the range covers its last hash.
    """
    try:
        document = orjson.loads(data)
        if fault := _find_version_fault(document):
            return fault
        signature, public_key = document.pop("signature"), document["public_key"]
        if not is_signed(canonical_json(document), public_key, signature):
            return "its signature is not that of its content"
        if public_key not in signer.known_keys and not is_vouched:
            return unknown_key(public_key)
        wanted = {**{name: expected[name] for name in _RANGE}, "objects": list(objects)}
        wrong = next((name for name, value in wanted.items() if document[name] != value), "")
    except (ValueError, LookupError, TypeError, AttributeError) as fault:
        return f"it cannot be read: {type(fault).__name__}"
    return f"its {wrong} is {document[wrong]!r}, and the archive's is {wanted[wrong]!r}" if wrong else ""


def _find_version_fault(document: Mapping[str, Any]) -> str:
    made_as = document["format"]
    if made_as == _UNSIGNED:
        return (
            f"its format {made_as!r} is not signed: check it with the release that made it, and keep that "
            f"release with the archive; this one reads {MANIFEST_FORMAT!r}"
        )
    if made_as != MANIFEST_FORMAT:
        return f"its format is {made_as!r}, not {MANIFEST_FORMAT!r}"
    version = document["text_version"]
    return (
        ""
        if version == TEXT_VERSION
        else f"its text_version is {version!r}; this release knows {TEXT_VERSION}"
    )
