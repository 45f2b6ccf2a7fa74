"""A month's package: its files, made in a folder, and the manifest that says what they are.

Nothing in them says when or by whom they were made: the same rows give the same bytes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection

from services.closing.corrections import Correction
from services.closing.items import SalesPeriod
from services.closing.profit_and_loss import CSV_NAME, plan_statement, write_statement
from services.closing.profit_pdf import PDF_NAME, write_pdf
from services.closing.tax_files import (
    LINES_NAME,
    SUMMARY_NAME,
    amount,
    write_tax_lines,
    write_tax_summary,
)
from services.closing.tax_profile import TaxProfile
from services.closing.totals import (
    Accounts,
    CostLine,
    MonthFigures,
    complete_figures,
    stream_taxed,
    to_stored,
)
from services.core.csv_cells import BOM, csv_line

COSTS_NAME, MANIFEST_NAME = "cost-of-goods.csv", "manifest.json"
FORMAT = "shopfleet-close/1"
_COST_COLUMNS = ("sku", "currency", "pieces", "cost_per_piece", "cost", "cost_minor_units")
_READ_AT_ONCE = 1 << 20


class PackageFile(NamedTuple):
    """One file of a package."""

    name: str
    sha256: str
    size: int


class ClosePackage(NamedTuple):
    """A month's package in ``folder``. ``manifest`` is the text whose hash stands for all of it."""

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
    """Of whose month a package is made."""

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
    tx: Connection, books: CloseInputs, corrections: Sequence[Correction], folder: Path
) -> ClosePackage:
    """The files of the month are in ``folder``, written as the rows come; return what they are.

    ``corrections`` of earlier months, which this one tells of, are in them. ``tx`` should see one state of
    the books throughout, or the files would contradict each other.
    """
    figures = MonthFigures()
    with (folder / LINES_NAME).open("wb") as file:
        rows = stream_taxed(tx, books.month, books.zone, books.profile)
        for row in write_tax_lines(file, rows):
            figures.add_item(row)
    complete_figures(tx, books.month, figures)
    with (folder / SUMMARY_NAME).open("wb") as file:
        write_tax_summary(file, figures.taxes, books.profile)
    with (folder / COSTS_NAME).open("wb") as file:
        file.write(BOM + csv_line(_COST_COLUMNS) + b"".join(map(_cost_line, figures.costs)))
    stored = to_stored(figures, books.zone, books.month.home, books.profile)
    statement = plan_statement(
        shop_name=books.name,
        shop_currency=books.currency,
        period=books.period,
        before=books.period_before,
        zone=books.zone.key,
        now=stored["accounts"],
        then=books.accounts_before,
        corrections=corrections,
        counts=figures.counts,
    )
    with (folder / CSV_NAME).open("wb") as file:
        write_statement(file, statement)
    with (folder / PDF_NAME).open("wb") as file:
        write_pdf(file, statement)
    names = (CSV_NAME, PDF_NAME, LINES_NAME, SUMMARY_NAME, COSTS_NAME)
    files = [_measure(folder / name) for name in names]
    manifest = make_manifest(books, files, stored, corrections)
    (folder / MANIFEST_NAME).write_bytes(manifest)
    return ClosePackage(folder, files, manifest, stored, corrections)


def make_manifest(
    books: CloseInputs,
    files: Sequence[PackageFile],
    figures: Mapping[str, Any],
    corrections: Sequence[Correction],
) -> bytes:
    """Return the manifest: what the files are, of which month, and from how many rows they were made."""
    content = {
        "format": FORMAT,
        "shop": books.slug,
        "period": books.period,
        "zone": books.zone.key,
        "begins": books.month.begins,
        "ends": books.month.ends,
        "made_from": figures["counts"],
        "corrections": len(corrections),
        "files": [file._asdict() for file in files],
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z) + b"\n"


def _cost_line(line: CostLine) -> bytes:
    if line.cost_cents is None:
        return csv_line((line.sku, line.currency, line.pieces, None, None, None))
    costs = (line.cost_cents, line.cost_cents * line.pieces)
    return csv_line(
        (
            line.sku,
            line.currency,
            line.pieces,
            *(amount(cents, line.currency) for cents in costs),
            line.cost_cents,
        )
    )


def _measure(path: Path) -> PackageFile:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_AT_ONCE):
            digest.update(chunk)
    return PackageFile(path.name, digest.hexdigest(), path.stat().st_size)
