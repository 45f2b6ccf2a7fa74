"""``fleet mail preview``: a mail as a file, for a shop or without a database."""

import json
import tempfile
from base64 import b64encode
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.cli.mail.preview import format_html
from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.shops.shops import add_shop
from tests.mail.sample_mail_types import KINDS, chart, png, sample_mail


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("mail", "preview", *arguments))


@pytest.mark.parametrize("kind", KINDS)
def test_preview_writes_each_kind_to_a_new_temporary_folder_without_a_database(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    result = run(kind)

    assert result.exit_code == 0, result.output
    path = Path(result.output.splitlines()[0].removeprefix("Wrote "))
    assert (path.name, path.parent.parent) == (f"{kind}.html", tmp_path)
    assert "Harbour Coffee" in path.read_text()


def test_preview_for_a_shop_has_its_name_currency_and_zone(engine: Engine, tmp_path: Path) -> None:
    with transaction(engine) as tx:
        add_shop(
            tx,
            slug="lagoon",
            name="Lagoon & Co",
            timezone="Australia/Lord_Howe",
            currency="AUD",
            now=utc_now(),
        )
    result = run("job_late", "--shop", "lagoon", "--out", str(tmp_path / "late.html"))

    assert result.exit_code == 0, result.output
    html = (tmp_path / "late.html").read_text()
    assert "Lagoon &amp; Co" in html
    assert "Australia/Lord_Howe" in html
    assert "AUD" in run("daily_anomalies", "--shop", "lagoon", "--text").output


def test_preview_prints_the_text_with_subject_and_preview() -> None:
    result = run("test", "--text")

    assert result.output.startswith("Subject: Shopfleet can reach you by mail\nPreview: ")
    assert "MAIL IS SET UP CORRECTLY" in result.output


def test_preview_as_json_contains_the_file(tmp_path: Path) -> None:
    document = json.loads(run("audit_failed", "--out", str(tmp_path / "a.html"), "--json").output)

    assert document["file"] == str(tmp_path / "a.html")
    assert document["html_bytes"] == (tmp_path / "a.html").stat().st_size


def test_preview_list_contains_every_kind() -> None:
    assert {row["kind"] for row in json.loads(run("--list", "--json").output)} >= set(KINDS)
    assert "shop owner" in run("--list").output


@pytest.mark.parametrize("arguments", [["nonsense"], []])
def test_unknown_kind_is_wrong_usage_and_lists_all_kinds(arguments: list[str]) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    for kind in KINDS:
        assert kind in result.output


def test_missing_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    result = run("test", "--out", str(tmp_path / "none" / "a.html"))

    assert result.exit_code == 2
    assert "a.html: No such file or directory; name a file" in result.output


def test_pictures_of_a_mail_are_part_of_the_preview() -> None:
    mail = sample_mail("letter_with_picture", images={"chart": chart()}, unsubscribe="https://example.com/u")

    assert f"data:image/png;base64,{b64encode(png()).decode()}" in format_html(mail)
    assert "cid:" not in format_html(mail)
