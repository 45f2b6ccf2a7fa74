"""A package in the archive store: put once, read back, and checked against its manifest and its row."""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from services.audit.store import ObjectExists, ObjectMissing, ObjectStore
from services.closing.corrections import ClosedMonth
from services.closing.package import COSTS_NAME, MANIFEST_NAME, ClosePackage
from services.core.csv_cells import uncell
from services.core.errors import Refused


def put_package(
    store: ObjectStore, shop_id: int, period: str, package: ClosePackage, retain_until: datetime | None
) -> str:
    """Store every file, and the manifest last, and read them back; return the manifest's key.

    Raises ``Refused`` if a file exists with other content, or differs when it is read back.
    """
    # The hash is in the folder's name: an unfinished package, whose rows changed after a crash, has another
    # folder.
    folder = f"close/shop-{shop_id}/{period}/{package.sha256[:16]}/"
    for file in package.files:
        _put(store, folder + file.name, (package.folder / file.name).read_bytes(), retain_until)
    _put(store, folder + MANIFEST_NAME, package.manifest, retain_until)
    closed = [file._asdict() for file in package.files]
    if faults := list(list_package_faults(store, folder + MANIFEST_NAME, package.sha256, closed)):
        raise Refused("close.archive_broken", f"{faults[0]}; the month was not closed")
    return folder + MANIFEST_NAME


def list_package_faults(
    store: ObjectStore, manifest_key: str, manifest_sha256: str, files: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield the faults of a stored package: files that are missing, altered, or not in its manifest."""
    manifest = _get(store, manifest_key)
    if manifest is None:
        yield f"{manifest_key} is missing from the archive store"
    elif hashlib.sha256(manifest).hexdigest() != manifest_sha256:
        yield f"{manifest_key} was altered: its SHA-256 is not {manifest_sha256}"
    elif orjson.loads(manifest)["files"] != list(files):
        yield f"{manifest_key} names other files than its row in closed_periods"
    folder = manifest_key.rpartition("/")[0]
    for file in files:
        key = f"{folder}/{file['name']}"
        data = _get(store, key)
        if data is None:
            yield f"{key} is missing from the archive store"
        elif hashlib.sha256(data).hexdigest() != file["sha256"] or len(data) != file["size"]:
            yield f"{key} was altered: its SHA-256 is not {file['sha256']}"


def find_costs(store: ObjectStore, closed: ClosedMonth) -> dict[tuple[str, str], int | None] | None:
    """Return the cost of a piece by (currency, SKU) at the close; None if the file is missing or altered."""
    key = f"{closed.manifest_key.rpartition('/')[0]}/{COSTS_NAME}"
    data = _get(store, key)
    wanted = {file["name"]: file["sha256"] for file in closed.files}
    if data is None or hashlib.sha256(data).hexdigest() != wanted.get(COSTS_NAME):
        return None
    rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    return {
        (row["currency"], uncell(row["sku"])): int(cost) if (cost := row["cost_minor_units"]) else None
        for row in rows
    }


def _put(store: ObjectStore, key: str, data: bytes, retain_until: datetime | None) -> None:
    try:
        store.put(key, data, retain_until)
    except ObjectExists:
        if store.get(key) != data:
            raise Refused(
                "close.archive_taken",
                f"{key} exists with other content: move it away, then requeue the run",
            ) from None


def _get(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except ObjectMissing:
        return None
