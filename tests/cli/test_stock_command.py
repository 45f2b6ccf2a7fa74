"""``fleet stock`` commands."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.cli.main import main
from services.core.db import transaction
from tests.shopify.sample_payloads import LOCATION, add_shop, rows
from tests.shopify.test_low_stock import stock

POINTS = "select sku, reorder_point from inventory_levels order by sku"


def fleet(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, ["stock", *arguments], input=typed)


@pytest.fixture
def harbour(engine: Engine) -> Engine:
    add_shop(engine)
    stock(engine, "MUG", 5, 9, item=2**53 + 1)
    stock(engine, "TEA", 50, None, item=2)
    return engine


def test_low_lists_items_to_reorder(harbour: Engine) -> None:
    shown = fleet("low", "--shop", "harbour")
    (line,) = json.loads(fleet("low", "--shop", "harbour", "--json").output)

    assert shown.exit_code == 0, shown.output
    assert "MUG" in shown.output
    assert "TEA" not in shown.output
    assert (line["sku"], line["available"], line["reorder_point"], line["days_cover"]) == ("MUG", 5, 9, None)


def test_low_without_a_reorder_point_says_how_to_set_one(harbour: Engine) -> None:
    with transaction(harbour) as tx:
        tx.exec_driver_sql("update inventory_levels set reorder_point = null")
    shown = fleet("low", "--shop", "harbour")

    assert shown.exit_code == 0
    assert "harbour has 2 levels and no reorder point" in shown.output
    assert "`fleet stock reorder-point SKU N --shop harbour`" in shown.output


def test_low_without_a_low_level_says_how_many_have_a_reorder_point(harbour: Engine) -> None:
    fleet("reorder-point", "harbour", "MUG", "1")

    assert fleet("low", "--shop", "harbour").output.startswith(
        "Nothing is below its reorder point; 1 of 2 levels have one."
    )


def test_show_lists_the_shop_or_one_sku(harbour: Engine) -> None:
    assert [line["sku"] for line in json.loads(fleet("show", "harbour", "--json").output)] == ["MUG", "TEA"]
    assert [line["sku"] for line in json.loads(fleet("show", "harbour", "TEA", "--json").output)] == ["TEA"]
    unknown = fleet("show", "MUGS", "--shop", "harbour")
    assert unknown.exit_code == 2
    assert "sku='MUGS' should be one of MUG, TEA; did you mean 'MUG'?" in unknown.output


def test_reorder_point_is_set_and_cleared_and_a_dry_run_changes_nothing(harbour: Engine) -> None:
    assert "Would change 1 level." in fleet("reorder-point", "harbour", "TEA", "60", "--dry-run").output
    assert rows(harbour, POINTS) == [("MUG", 9), ("TEA", None)]

    assert "Changed 1 level." in fleet("reorder-point", "harbour", "TEA", "60").output
    fleet("reorder-point", "harbour", "MUG", "none", "--location", str(LOCATION))
    assert rows(harbour, POINTS) == [("MUG", None), ("TEA", 60)]
    assert "Nothing to change." in fleet("reorder-point", "harbour", "TEA", "60").output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("reorder-point", "harbour", "MUG", "few"), 2, "whole number"),
        (("reorder-point", "harbour", "SOAP", "1"), 2, "the shop has no stock of 'SOAP'"),
        (("reorder-point", "harbour", "MUG", "1", "--location", "9"), 2, "at location 9"),
        (("low", "--shop", "nowhere"), 2, "nowhere"),
    ],
)
def test_error_names_what_is_wrong(
    harbour: Engine, arguments: tuple[str, ...], code: int, message: str
) -> None:
    refused = fleet(*arguments)

    assert refused.exit_code == code
    assert message in refused.output


def test_file_of_reorder_points_is_all_or_nothing(harbour: Engine, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text("sku,reorder_point\nTEA,60\nSOAP,1\n")
    refused = fleet("reorder-points", "harbour", "--csv", str(file))
    assert refused.exit_code == 2
    assert "line 3: the shop has no stock of 'SOAP'" in refused.output
    assert rows(harbour, POINTS) == [("MUG", 9), ("TEA", None)]

    typed = "sku,reorder_point\nTEA,60\nMUG,\n"
    assert "Changed 2 levels." in fleet("reorder-points", "harbour", "--csv", "-", typed=typed).output
    assert rows(harbour, POINTS) == [("MUG", None), ("TEA", 60)]


def test_file_that_is_not_utf8_says_so(harbour: Engine, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_bytes("sku,reorder_point\nCAF\xc9,1\n".encode("latin-1"))

    assert "is not text in UTF-8" in fleet("reorder-points", "harbour", "--csv", str(file)).output
