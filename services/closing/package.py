"""A month's package: its files, written into a folder, and the manifest that lists them.

The files contain no time or author of their making: the same rows give the same bytes.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection

from services.closing.corrections import Correction
from services.closing.items import SalesPeriod
from services.closing.profit_and_loss import CSV_NAME, plan_statement, statement_columns
from services.closing.profit_pdf import PDF_NAME, write_pdf
from services.closing.tax_files import LINE_COLUMNS, LINES_NAME, SUMMARY_NAME, find_amount, summary_columns
from services.closing.tax_profile import TaxProfile
from services.closing.totals import (
    Accounts,
    CostLine,
    MonthFigures,
    complete_figures,
    stream_taxed,
    to_stored,
)
from services.core.csv_cells import csv_file

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


class PackageFile(NamedTuple):
    """One file of a package."""

    name: str
    sha256: str
    size: int


class ClosePackage(NamedTuple):
    """A month's package in ``folder``. The hash of ``manifest`` stands for all of it."""

    folder: Path
    files: Sequence[PackageFile]
    manifest: bytes
    figures: dict[str, Any]
    corrections: Sequence[Correction]

    @property
    def sha256(self) -> str:
        """The hash of the manifest."""
        return hashlib.sha256(self.manifest).hexdigest()


class CloseInputs(NamedTuple):
    """The shop and the month of a package, and the accounts of the month before."""

    shop_id: int
    slug: str
    name: str
    currency: str
    period: str
    zone: ZoneInfo
    month: SalesPeriod
    profile: TaxProfile
    period_before: str
    accounts_before: Accounts


def build_package(
    tx: Connection, inputs: CloseInputs, corrections: Sequence[Correction], folder: Path
) -> ClosePackage:
    """Write the files of the month into ``folder`` as the rows arrive; return what they are.

    The files include ``corrections`` of earlier months. ``tx`` should use one snapshot, or the files could
    contradict each other.
    """
    figures = MonthFigures()
    items = stream_taxed(tx, inputs.month, inputs.zone, inputs.profile)
    _write_csv(folder / LINES_NAME, LINE_COLUMNS, _each(items, figures.add_item))
    complete_figures(tx, inputs.month, figures)
    _write_csv(folder / SUMMARY_NAME, summary_columns(inputs.profile), figures.taxes.sorted())
    _write_csv(folder / COSTS_NAME, _COST_COLUMNS, figures.costs)
    stored = to_stored(figures, inputs.zone, inputs.month.home, inputs.profile)
    statement = plan_statement(
        shop_name=inputs.name,
        shop_currency=inputs.currency,
        period=inputs.period,
        before=inputs.period_before,
        zone=inputs.zone.key,
        now=stored["accounts"],
        then=inputs.accounts_before,
        corrections=corrections,
        counts=figures.counts,
    )
    _write_csv(folder / CSV_NAME, statement_columns(statement), statement.lines)
    with (folder / PDF_NAME).open("wb") as file:
        write_pdf(file, statement)
    files = [_measure(folder / name) for name in (CSV_NAME, PDF_NAME, LINES_NAME, SUMMARY_NAME, COSTS_NAME)]
    manifest = _make_manifest(inputs, files, stored, corrections)
    (folder / MANIFEST_NAME).write_bytes(manifest)
    return ClosePackage(folder, files, manifest, stored, corrections)


def _each(rows: Iterable[T], add: Callable[[T], None]) -> Iterator[T]:
    for row in rows:
        yield row
        add(row)


def _write_csv(path: Path, columns: Mapping[str, Callable[[T], object]], rows: Iterable[T]) -> None:
    with path.open("wb") as file:
        file.writelines(csv_file(columns, rows))


def _make_manifest(
    inputs: CloseInputs,
    files: Sequence[PackageFile],
    figures: Mapping[str, Any],
    corrections: Sequence[Correction],
) -> bytes:
    content = {
        "format": FORMAT,
        "shop": inputs.slug,
        "period": inputs.period,
        "zone": inputs.zone.key,
        "begins": inputs.month.begins,
        "ends": inputs.month.ends,
        "made_from": figures["counts"],
        "corrections": len(corrections),
        "files": [file._asdict() for file in files],
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z) + b"\n"


def _measure(path: Path) -> PackageFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return PackageFile(path.name, digest.hexdigest(), path.stat().st_size)
