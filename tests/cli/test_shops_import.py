"""``fleet shops import`` adds all shops of a file or none; ``fleet shops secret`` reads a file."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import Engine

from services.core.db import transaction
from services.shops.shops import list_shops
from tests.cli.commands import SECRET, run

HEADER = "slug,name,timezone,currency,owner_email,shopify_domain"
GOOD = ("acme,Acme,America/Vancouver,CAD,ada@acme.example,acme.myshopify.com",)


def write(path: Path, *lines: str, header: str = HEADER) -> Path:
    file = path / "shops.csv"
    file.write_text("\n".join((header, *lines)) + "\n")
    return file


def do_import(file: Path, *more: str) -> Result:
    return run("shops", "import", str(file), "--as", "ada", *more)


def slugs(engine: Engine) -> list[str]:
    with transaction(engine) as tx:
        return [shop.slug for shop in list_shops(tx)]


def test_shops_of_a_file_are_added_and_a_second_import_changes_nothing(
    engine: Engine, tmp_path: Path
) -> None:
    file = write(tmp_path, GOOD[0], "bay,Bay,UTC,USD,,")

    assert do_import(file, "--dry-run").output == "2 shops would be added, 0 there already\n"
    assert slugs(engine) == []
    added = json.loads(do_import(file, "--json").output)
    again = do_import(file)

    assert added == {"dry_run": False, "added": ["acme", "bay"], "unchanged": 0}
    assert slugs(engine) == ["acme", "bay"]
    assert again.output == "0 shops added, 2 there already\n"
    with transaction(engine) as tx:
        shop = list_shops(tx)[0]
        audited = tx.exec_driver_sql("select staff_label from audit_events").scalars().all()
    assert (shop.name, shop.shopify_domain, shop.stock_owner) == ("Acme", "acme.myshopify.com", "shopify")
    assert audited == ["ada", "ada"]


def test_every_wrong_line_is_named_and_nothing_is_added(engine: Engine, tmp_path: Path) -> None:
    lines = [
        GOOD[0],
        "BIG,Big,Mars,ZZZ,nobody,big.example",
        "acme,Acme two,UTC,CAD,,",
        "bay,Bay,UTC,CAD,,acme.myshopify.com",
        "cove,Cove,UTC,CAD,,,one,too,many",
        *(f"shop{n},Shop,UTC,{n},," for n in range(40)),
    ]

    refused = do_import(write(tmp_path, *lines))

    assert refused.exit_code == 2
    for part in (
        "line 3: slug='BIG' should be", "timezone='Mars' should be", "currency='ZZZ' should be",
        "owner_email='nobody' should be", "shopify_domain='big.example' should be",
        "line 4: slug='acme' is in line 2 already",
        "line 5: shopify_domain='acme.myshopify.com' is in line 2",
        "line 6: there are more fields", "line 7: currency='0'", "line 46: currency='39'",
    ):  # fmt: skip
        assert part in refused.output
    assert slugs(engine) == []


def test_mistake_that_each_line_repeats_is_compared_once_with_the_known_values(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def find(value: str, *_: object) -> str:
        compared.append(value)
        return "; did you mean 'America/Vancouver'?"

    monkeypatch.setattr("services.shops.fields.suggest_zones", find)

    refused = do_import(write(tmp_path, *(f"s{n},Shop,Amerika/Vancouvr,CAD,," for n in range(9))))

    assert refused.output.count("did you mean 'America/Vancouver'?") == 9
    assert compared == ["Amerika/Vancouvr"]


@pytest.mark.parametrize("row", ['bay,"Bay"x,UTC,CAD,,', 'bay,"Bay,UTC,CAD,,\ncove,Cove,UTC,CAD,,'])
def test_fault_in_quotes_names_the_line_where_the_row_begins(
    engine: Engine, tmp_path: Path, row: str
) -> None:
    refused = do_import(write(tmp_path, GOOD[0], row))

    assert refused.exit_code == 2
    assert "  line 3: " in refused.output
    assert slugs(engine) == []


def test_shop_that_exists_with_other_values_is_a_wrong_line(
    harbour: str, engine: Engine, tmp_path: Path
) -> None:
    refused = do_import(
        write(tmp_path, GOOD[0], "harbour,Port,America/Los_Angeles,CAD,owner@harbour.example,")
    )

    assert refused.exit_code == 2
    assert "line 3: slug='harbour' exists with another name: `fleet shops set`" in refused.output
    assert slugs(engine) == ["harbour"]


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("slug,name,timezone", "required: slug, name, timezone, currency"),
        ("slug,name,timezone,currency,shopify-token", "the columns should be of slug, name,"),
    ],
)
def test_wrong_header_is_named(engine: Engine, tmp_path: Path, header: str, named: str) -> None:
    refused = do_import(write(tmp_path, "acme,Acme,UTC,CAD", header=header))

    assert refused.exit_code == 2
    assert named in refused.output


def test_empty_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    assert "the file has no line below its first" in do_import(write(tmp_path)).output


@pytest.mark.parametrize("from_stdin", [False, True])
def test_secret_is_read_from_a_file_or_from_standard_input(
    harbour: str, tmp_path: Path, *, from_stdin: bool
) -> None:
    file = tmp_path / "secret.txt"
    file.write_text(f"{SECRET}\n")
    source = "-" if from_stdin else str(file)

    done = run(
        "shops", "secret", harbour, "shopify-webhook", "--from-file", source,
        answer=SECRET if from_stdin else None,
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    assert "Recorded shopify-webhook of harbour" in done.output
    assert SECRET not in done.output


def test_file_and_generate_exclude_each_other(harbour: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(SECRET)

    refused = run(
        "shops", "secret", harbour, "shopify-webhook", "--from-file", str(tmp_path / "a"), "--generate"
    )

    assert refused.exit_code == 2
    assert "--from-file and --generate exclude each other" in refused.output
