"""The files of a report hold its rows, run no formula, and are equal for equal reports."""

import csv
from dataclasses import replace
from io import BytesIO, StringIO
from zipfile import ZipFile

import pytest

from services.providers.quickbooks_time import LONGEST_NAME
from services.timesheets.report_files import FORMATS, ReportHead, format_hours
from services.timesheets.report_kinds import KINDS, make_table
from services.timesheets.report_table import Employee
from tests.timesheets.samples import make_input

HEAD = ReportHead(
    company="Harbour Bikes", name="Weekly payroll", period="15 to 21 Nov 2026", about="Vancouver"
)


def write(kind: str, suffix: str) -> bytes:
    return FORMATS[suffix].write(HEAD, make_table(KINDS[kind], make_input()))


@pytest.mark.parametrize(
    ("seconds", "hours"), [(0, "0.00"), (18, "0.01"), (17, "0.00"), (5418, "1.51"), (3_600_000, "1000.00")]
)
def test_hours_are_rounded_half_up(seconds: int, hours: str) -> None:
    assert format_hours(seconds) == hours


def test_csv_has_a_line_for_each_row_and_no_formula() -> None:
    lines = list(csv.reader(StringIO(write("payroll", "csv").decode("utf-8-sig"), newline="")))
    assert lines[0][:3] == ["Person", "Payroll id", "Regular"]
    assert [line[0] for line in lines[1:]] == ["'=SUM(A1)", "Dana Ruiz", "Zoë Łuczak"]


def test_xlsx_has_numbers_and_text_and_no_formula() -> None:
    with ZipFile(BytesIO(write("payroll", "xlsx"))) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
        texts = book.read("xl/sharedStrings.xml").decode()
    assert "<f>" not in sheet
    assert "<v>4.33</v>" in sheet
    assert "<v>40.83</v>" in sheet, "the total"
    for text in ("=SUM(A1)", "Harbour Bikes: Weekly payroll", "British Columbia: overtime", "Zoë Łuczak"):
        assert text in texts


@pytest.mark.parametrize("kind", KINDS)
def test_pdf_has_every_row(kind: str) -> None:
    page = write(kind, "pdf").decode("latin-1")
    assert page.startswith("%PDF")
    shown = {"=SUM(A1)": "=SUM\\(A1\\)", "Zoë Łuczak": "?uczak"}  # Helvetica has no letter Ł
    for row in make_table(KINDS[kind], make_input()).rows:
        assert shown.get(row[0], str(row[0])) in page


def test_a_pdf_that_leaves_rows_out_says_so_and_adds_all_of_them_up(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write("payroll", "pdf").decode("latin-1")
    monkeypatch.setattr("services.timesheets.report_files.PDF_ROWS", 1)
    cut = write("payroll", "pdf").decode("latin-1")

    assert "Here are the first 1 of 3 rows" in cut
    assert "Dana Ruiz" not in cut
    assert "Here are the first" not in whole
    assert "40.83" in cut, "the total of all rows"


@pytest.mark.parametrize("sign", list("=+-@\uff1d\uff0b\uff0d\uff20"))
def test_no_sign_of_a_formula_begins_a_cell_of_csv(sign: str) -> None:
    given = replace(make_input(), people={7: Employee(f"{sign}SUM(A1)", "")})
    lines = FORMATS["csv"].write(HEAD, make_table(KINDS["payroll"], given)).decode("utf-8-sig")

    assert f"\n'{sign}SUM(A1)" in lines.replace('"', "")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_long_name_without_spaces_fits_into_each_file(kind: str, suffix: str) -> None:
    name = "W" * LONGEST_NAME
    given = replace(make_input(), people={7: Employee(name, name)}, jobcodes={3: name, 4: name})
    assert FORMATS[suffix].write(HEAD, make_table(KINDS[kind], given))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_equal_reports_have_equal_bytes(kind: str, suffix: str) -> None:
    assert write(kind, suffix) == write(kind, suffix)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_report_without_rows_can_be_written(suffix: str) -> None:
    table = make_table(KINDS["overtime"], make_input(sheets=()))
    assert len(FORMATS[suffix].write(HEAD, table)) > 50
