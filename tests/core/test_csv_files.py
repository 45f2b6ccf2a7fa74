"""CSV: a spreadsheet runs no cell as a formula, and a reader gets the written text."""

import csv
import io
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.core.csv_files import csv_cell, csv_line, parse_csv, read_cell
from services.core.errors import InputInvalid

NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
FORMULAS = st.tuples(st.sampled_from(["=", "+", "-", "@", "\t", "\r", " =", "\n+", "＝"]), TEXTS).map("".join)


def read(line: bytes) -> list[str]:
    (row,) = csv.reader(io.StringIO(line.decode(), newline=""), strict=True)
    return row


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(TEXTS | FORMULAS, min_size=2, max_size=5))
@example(["=1+1", '=cmd|"/c calc"!A1', "\tx"])
@example(["-12.50", "- 12.50", "-1e5"])
def test_no_cell_is_a_formula_and_every_reader_gets_the_text_back(cells: list[str]) -> None:
    line = csv_line(cells)

    assert line.endswith(b"\r\n")
    got = read(line)
    for shown, cell in zip(got, cells, strict=True):
        dangerous = shown[:1] in ("\t", "\r", "\n") or shown.lstrip()[:1] in tuple("=+-@＝＋－＠")
        assert shown == "" or not dangerous or NUMBER.fullmatch(shown)
        assert shown.removeprefix("'") == cell.removeprefix("'") or shown == f"'{cell}"
        if not cell.startswith("'"):
            assert read_cell(shown) == cell


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "-1"), ("-12.50", "-12.50"), ("-1-1", "'-1-1"),
        ("@x", "'@x"), ("  =1", "'  =1"), ("\t1", "'\t1"), ("\rx", "\"'\rx\""),
        ('a "b", c', '"a ""b"", c"'), ("7", "7"),
        ("-", "'-"), ("-٣", "'-٣"), ("", ""), ("MUG", "MUG"),
    ],
)  # fmt: skip
def test_cell_is_written_as_expected(value: str, cell: str) -> None:
    assert csv_cell(value) == cell


def test_half_of_a_surrogate_pair_breaks_no_file() -> None:
    assert csv_line(["a\ud800b", None]) == b"a?b,\r\n"


def test_a_nul_character_is_refused_with_its_line() -> None:
    with pytest.raises(InputInvalid, match="line 3: a cell contains a NUL character") as caught:
        parse_csv("sku,pieces\nMUG,1\nC\0UP,2\n", ("sku", "pieces"), ("sku",), lambda *row: row, InputInvalid)

    assert "line 2" not in str(caught.value)
