"""The package of a small month, byte for byte. ``KEEP_GOLDEN=1`` writes the files again: review them then."""

import os
import re
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine

from services.audit.queries import use_snapshot
from services.closing.month_package import ClosePackage, build_package
from services.core.db import transaction
from services.shops.shops import get_shop_by_id
from tests.closing.months import PERIOD, ZONE, add_october

GOLDEN = Path(__file__).with_name("golden")
NAMES = ("sales-tax.csv", "sales-tax-summary.csv", "profit-and-loss.csv", "cost-of-goods.csv")


def build(folder: Path) -> ClosePackage:
    folder.mkdir()
    with transaction() as tx:
        use_snapshot(tx)
        return build_package(tx, get_shop_by_id(tx, 1), PERIOD, ZONE, [], folder)


@pytest.fixture
def october(engine: Engine) -> Engine:
    add_october(engine)
    return engine


def test_files_of_the_month_equal_the_golden_files(october: Engine, tmp_path: Path) -> None:
    build(tmp_path / "made")

    for name in NAMES:
        made = (tmp_path / "made" / name).read_bytes()
        if os.environ.get("KEEP_GOLDEN"):
            (GOLDEN / name).write_bytes(made)
        assert made == (GOLDEN / name).read_bytes(), name


def test_the_same_rows_give_the_same_bytes_the_pdf_included(october: Engine, tmp_path: Path) -> None:
    first, second = build(tmp_path / "one"), build(tmp_path / "two")

    assert first.files == second.files
    assert first.manifest == second.manifest
    assert {file["name"] for file in first.files} == {*NAMES, "profit-and-loss.pdf"}


def test_the_manifest_names_every_file_and_what_it_was_made_from(october: Engine, tmp_path: Path) -> None:
    package = build(tmp_path / "made")

    content = orjson.loads(package.manifest)
    assert (content["period"], content["zone"]) == (PERIOD, "America/Los_Angeles")
    assert (content["begins"], content["ends"]) == ("2026-10-01T07:00:00Z", "2026-11-01T07:00:00Z")
    assert content["made_from"]["orders"] == 11
    assert content["made_from"]["refunds without order"] == 1
    assert {file["name"] for file in content["files"]} == {file["name"] for file in package.files}


def test_the_pdf_is_one_page_for_each_currency_and_has_no_date_of_its_making(
    october: Engine, tmp_path: Path
) -> None:
    build(tmp_path / "made")

    pdf = (tmp_path / "made" / "profit-and-loss.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 3
    assert b"2026112" not in pdf
    assert b"Harbour & S" in pdf
