"""A month's package: its files, the manifest that lists them, and their copy in the archive store.

The files contain no creation time and no author, so the same rows give the same bytes.
"""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection

from services.audit.store import ObjectExists, ObjectMissing, ObjectStore
from services.closing.corrections import ClosedMonth, Correction, find_closed_month, shift_month
from services.closing.profit_and_loss import (
    CHANNEL_TAX,
    CSV_NAME,
    UNREAD_DAYS_BEFORE,
    plan_statement,
    statement_columns,
)
from services.closing.profit_pdf import PDF_NAME, write_pdf
from services.closing.sale_items import make_month_period
from services.closing.tax_files import (
    LINE_COLUMNS,
    LINES_NAME,
    SUMMARY_NAME,
    TaxSum,
    find_amount,
    summary_columns,
)
from services.closing.tax_profile import find_profile_with_home
from services.closing.tax_rates import CHANNEL
from services.closing.totals import UNREAD_DAYS, CostLine, Costs, get_figures, make_stored_figures
from services.core.csv_files import csv_file, read_cell
from services.core.errors import Refused
from services.shops.shops import Shop

COSTS_NAME, MANIFEST_NAME = "cost-of-goods.csv", "manifest.json"
FORMAT = "shopfleet-close/1"

T = TypeVar("T")

_COST_COLUMNS: Mapping[str, Callable[[CostLine], object]] = {
    "sku": lambda line: line.sku,
    "currency": lambda line: line.currency,
    "pieces": lambda line: line.pieces,
    "cost_per_piece": lambda line: find_amount(line.cost_cents, line.currency),
    "cost": lambda line: find_amount(line.total_cents, line.currency),
    "cost_minor_units": lambda line: line.cost_cents,
}


class ClosePackage(NamedTuple):
    """A month's package in ``folder``; each of ``files`` has a ``name``, ``sha256`` and ``size`` in bytes."""

    folder: Path
    files: Sequence[Mapping[str, Any]]
    manifest: bytes
    figures: dict[str, Any]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()


def build_package(
    tx: Connection, shop: Shop, period: str, zone: ZoneInfo, corrections: Sequence[Correction], folder: Path
) -> ClosePackage:
    """Write the files of the month into ``folder``, streamed from the rows; return the package.

    The files include ``corrections`` of earlier months. ``tx`` should use one snapshot, so that the files do
    not contradict each other.
    """
    profile = find_profile_with_home(tx, shop.id)
    month, before = make_month_period(shop.id, period, zone, profile), shift_month(period, -1)
    closed = find_closed_month(tx, shop.id, before)
    if closed:
        accounts_before, counts_before = closed.figures["accounts"], closed.figures["counts"]
    else:
        earlier = get_figures(tx, make_month_period(shop.id, before, zone, profile))
        accounts_before, counts_before = earlier.accounts, earlier.counts
    figures = get_figures(
        tx, month, write_items=lambda items: _write_csv(folder / LINES_NAME, LINE_COLUMNS, items)
    )
    if unread := counts_before.get(UNREAD_DAYS, 0):
        figures.counts[UNREAD_DAYS_BEFORE] = unread
    sums = [*figures.taxes.sorted(), *_sum_corrections(corrections)]
    _write_csv(folder / SUMMARY_NAME, summary_columns(profile), sums)
    _write_csv(folder / COSTS_NAME, _COST_COLUMNS, figures.costs)
    stored = make_stored_figures(figures, month)
    statement = plan_statement(
        shop_name=shop.name,
        shop_currency=shop.currency,
        period=period,
        zone=zone.key,
        accounts=stored["accounts"],
        accounts_before=accounts_before,
        corrections=corrections,
        counts=figures.counts,
    )
    _write_csv(folder / CSV_NAME, statement_columns(statement), statement.lines)
    with (folder / PDF_NAME).open("wb") as file:
        write_pdf(file, statement)
    files = [_measure(folder / name) for name in (CSV_NAME, PDF_NAME, LINES_NAME, SUMMARY_NAME, COSTS_NAME)]
    content = {
        "format": FORMAT,
        "shop": shop.slug,
        "period": period,
        "zone": zone.key,
        "begins": month.begins,
        "ends": month.ends,
        "made_from": stored["counts"],
        "corrections": len(corrections),
        "files": files,
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z
    manifest = orjson.dumps(content, option=options) + b"\n"
    (folder / MANIFEST_NAME).write_bytes(manifest)
    return ClosePackage(folder, files, manifest, stored)


def _sum_corrections(corrections: Sequence[Correction]) -> Iterator[TaxSum]:
    """Yield a row of the tax summary for each correction of a tax."""
    for c in corrections:
        kind, *names = c.account.split(":")
        if kind in CHANNEL_TAX:
            names = ["", CHANNEL]
        if names:
            province, tax = names
            yield TaxSum(
                c.currency,
                province.removesuffix("?"),
                tax,
                charged=c.change,
                is_doubtful=kind == "doubt",
                corrects=c.period,
            )


def _write_csv(path: Path, columns: Mapping[str, Callable[[T], object]], rows: Iterable[T]) -> None:
    with path.open("wb") as file:
        file.writelines(csv_file(columns, rows))


def _measure(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return {"name": path.name, "sha256": digest.hexdigest(), "size": path.stat().st_size}


def put_package(
    store: ObjectStore, shop_id: int, period: str, package: ClosePackage, retain_until: datetime
) -> str:
    """Store every file, the manifest last, and read them back; return the manifest's key.

    Raises ``Refused`` if a file exists with other content, or differs when it is read back.
    """
    # The hash is in the folder's name: if rows change after a crash, the new package has another folder.
    folder = f"close/shop-{shop_id}/{period}/{package.sha256[:16]}/"
    for name in (*(file["name"] for file in package.files), MANIFEST_NAME):
        data = (package.folder / name).read_bytes()
        try:
            store.put(folder + name, data, retain_until)
        except ObjectExists:
            if store.get(folder + name) != data:
                why = f"{folder}{name} exists with other content: move it away, then requeue the run"
                raise Refused("close.archive_taken", why) from None
    if faults := list(list_package_faults(store, folder + MANIFEST_NAME, package.sha256, package.files)):
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
        yield f"{manifest_key} has other files than its row in closed_periods"
    for file in files:
        key = manifest_key.removesuffix(MANIFEST_NAME) + file["name"]
        data = _get(store, key)
        if data is None:
            yield f"{key} is missing from the archive store"
        elif hashlib.sha256(data).hexdigest() != file["sha256"] or len(data) != file["size"]:
            yield f"{key} was altered: its SHA-256 is not {file['sha256']}"


def find_costs(store: ObjectStore, closed: ClosedMonth) -> Costs | None:
    """Return the cost of a piece by (currency, SKU) at the close; None if the file is missing or altered."""
    data = _get(store, closed.folder + COSTS_NAME)
    hashes = {file["name"]: file["sha256"] for file in closed.files}
    if data is None or hashlib.sha256(data).hexdigest() != hashes.get(COSTS_NAME):
        return None
    rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    return {
        (row["currency"], read_cell(row["sku"])): int(cost) if (cost := row["cost_minor_units"]) else None
        for row in rows
    }


def _get(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except ObjectMissing:
        return None
