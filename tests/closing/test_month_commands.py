"""``fleet month-close``: show, preview, verify, and the tax profile."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.privacy.shop_removal import mark_removed
from services.shops.shops import get_shop
from tests.closing.months import add_october, close
from tests.closing.test_month_golden import GOLDEN, NAMES
from tests.shopify.sample_payloads import rows


@pytest.fixture
def archive(
    engine: Engine, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Path]:
    """A shop with its October, and an archive store."""
    monkeypatch.setenv("ARCHIVE_URL", f"file://{tmp_path}/archive")
    get_settings.cache_clear()
    add_october(engine)
    yield tmp_path / "archive"
    get_settings.cache_clear()


def fleet(*args: str) -> Result:
    return CliRunner().invoke(main, ["month-close", *args])


def test_a_closed_month_is_shown_with_its_files_and_hashes(archive: Path) -> None:
    close()

    shown, months = fleet("show", "harbour", "2026-10"), fleet("show", "harbour")
    document = json.loads(fleet("show", "harbour", "2026-10", "--json").output)

    assert "202.20 CAD" in shown.output
    assert "202.20 CAD" in months.output
    assert "Changed since it was closed: nothing." in shown.output
    assert document["period"] == "2026-10"
    assert {file["name"] for file in document["files"]} == {*NAMES, "profit-and-loss.pdf"}
    assert all(file["sha256"] in shown.output.replace("\n", "") for file in document["files"])


def test_a_month_that_is_not_closed_says_what_to_run(archive: Path) -> None:
    result = fleet("show", "harbour", "2026-10")

    assert result.exit_code == 1
    assert "fleet jobs run monthly-close --shop harbour --period 2026-10" in result.output
    assert fleet("show", "harbour", "October").exit_code == 2
    assert "No month of harbour was closed yet" in fleet("show", "harbour").output


def test_a_month_that_cannot_be_closed_names_no_command_that_closes_it(archive: Path, engine: Engine) -> None:
    current = utc_now().strftime("%Y-%m")
    running = fleet("show", current, "--shop", "harbour")
    with transaction(engine) as tx:
        mark_removed(tx, get_shop(tx, "harbour"), utc_now(), by="ada", request_id="r")
    removed, months = fleet("show", "2026-10", "--shop", "harbour"), fleet("show", "--shop", "harbour")

    assert running.exit_code == removed.exit_code == 1
    assert f"fleet month-close preview {current} --shop harbour" in running.output
    assert "cannot be: the shop was removed on" in removed.output
    assert "closed before the shop was removed" in months.output
    assert "jobs run" not in running.output + removed.output + months.output


def test_a_preview_writes_the_files_and_closes_nothing(archive: Path, engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "preview"

    result = fleet("preview", "harbour", "2026-10", "--to", str(folder))

    assert result.exit_code == 0, result.output
    assert "Nothing was closed." in result.output
    assert (folder / "sales-tax.csv").read_bytes() == (GOLDEN / "sales-tax.csv").read_bytes()
    assert rows(engine, "select count(*) from closed_periods") == [(0,)]
    assert not archive.exists()


def test_a_package_is_verified_and_each_fault_is_named(archive: Path) -> None:
    close()
    assert fleet("verify", "harbour", "2026-10").exit_code == 0
    (tax,) = archive.rglob("sales-tax.csv")
    tax.chmod(0o640)
    tax.write_bytes(tax.read_bytes() + b"x")
    (manifest,) = (archive / "close").rglob("manifest.json")
    manifest.unlink()

    result = fleet("verify", "harbour", "2026-10", "--json")

    assert result.exit_code == 1
    document = json.loads(result.output)
    assert document["status"] == "altered"
    assert [fault.rpartition("/")[2] for fault in document["faults"]] == [
        "manifest.json is missing from the archive store",
        document["faults"][1].rpartition("/")[2],
    ]
    assert "sales-tax.csv was altered" in document["faults"][1]


def test_a_tax_profile_is_kept_audited_and_changed_field_by_field(archive: Path, engine: Engine) -> None:
    first = fleet("tax-profile", "harbour", "--registered", "GST,PST:CA-SK", "--as", "ada")
    second = fleet("tax-profile", "harbour", "--qst", "1234567890 TQ0001", "--json")
    again = fleet("tax-profile", "harbour", "--qst", "1234567890 TQ0001")

    assert (first.exit_code, again.exit_code) == (0, 0), first.output
    assert json.loads(second.output) == {
        "province": "CA-BC", "registered": "GST, PST:CA-SK", "GST number": "123456789 RT0001",
        "PST number": "PST-1234-5678", "QST number": "1234567890 TQ0001", "PST-exempt goods": "",
    }  # fmt: skip
    audited = rows(engine, "select e.staff_label, m.summary from audit_events e join audit_mutations m"
                        " on m.event_id = e.id where e.action = 'shop.tax_profile'"
                        " order by e.seq")  # fmt: skip
    assert audited[0] == ("ada", "set registered of the tax profile")
    assert [summary for _, summary in audited[1:]] == ["set qst_number of the tax profile"]


def test_invalid_tax_profile_names_every_fault(archive: Path) -> None:
    result = fleet("tax-profile", "harbour", "--province", "BC", "--registered", "VAT", "--gst", "=1")

    assert result.exit_code == 2
    for part in ("--province='BC'", "registered 'VAT'", "--gst='=1'"):
        assert part in result.output


def test_old_name_of_the_command_works_and_is_not_listed() -> None:
    old, new = (CliRunner().invoke(main, [name, "--help"]).output for name in ("close", "month-close"))

    assert old.partition("\n")[2] == new.partition("\n")[2]
    assert "  close " not in CliRunner().invoke(main, ["--help"]).output
