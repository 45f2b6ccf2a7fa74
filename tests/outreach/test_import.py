"""People, their activity and their consents, from a file and from the API."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from services.accounts.roles import Role
from services.cli.main import main
from services.outreach.person import COLUMNS
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.outreach.audience import DAY, NINE, Audience

HEAD = ",".join(COLUMNS)
GIVEN = "2026-10-01T08:00:00Z"
ADA = f"u-1,Ada@Example.com,Ada,America/Vancouver,{GIVEN},2026-11-01T08:00:00Z,express,form,{GIVEN},"
BO = "u-2,bo@example.com,,,2026-10-01T08:00:00Z,,implied,order 7,2026-10-01T08:00:00Z,2028-10-01T08:00:00Z"
PEOPLE = "select external_id, email, name, timezone, last_active_at from outreach_people order by id"


def run_import(tmp_path: Path, *lines: str, code: int = 0, more: tuple[str, ...] = ("--json",)) -> Any:
    file = tmp_path / "people.csv"
    file.write_text("\n".join(lines))
    result = CliRunner().invoke(main, ["outreach", "import", "--shop", "harbour", "--csv", str(file), *more])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code == 0 and "--json" in more else result.output


def test_a_second_import_of_a_file_changes_nothing(audience: Audience, tmp_path: Path) -> None:
    counts = run_import(tmp_path, HEAD, ADA, BO, more=("--json", "--dry-run"))
    assert (counts["new"], counts["consents"]) == (2, 2)
    assert audience.rows(PEOPLE) == []
    assert run_import(tmp_path, HEAD, ADA, BO)["new"] == 2
    again = run_import(tmp_path, HEAD, ADA, BO)

    assert (again["new"], again["changed"], again["unchanged"], again["consents"]) == (0, 0, 2, 0)
    assert [row[:4] for row in audience.rows(PEOPLE)] == [
        ("u-1", "ada@example.com", "Ada", "America/Vancouver"),
        ("u-2", "bo@example.com", "", ""),
    ]
    assert audience.rows("select count(*) from audit_events where action = 'outreach.import'") == [(1,)]


def test_activity_moves_forward_only_and_empty_fields_keep_what_is_stored(audience: Audience) -> None:
    audience.add(
        {"external_id": "ada", "name": "Ada", "last_active_at": NINE - DAY, "timezone": "Asia/Tokyo"}
    )
    audience.add({"external_id": "ada", "last_active_at": NINE - 2 * DAY})
    assert audience.rows(PEOPLE) == [("ada", "ada@example.com", "Ada", "Asia/Tokyo", NINE - DAY)]

    found = audience.add({"external_id": "ada", "last_active_at": NINE})
    assert found.changed == 1
    assert audience.rows(PEOPLE)[0][4] == NINE


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("u-1,ada,,,,,,,,", "line 2: email='ada' should be one mail address"),
        (",ada@example.com,,,,,,,,", "line 2: external_id is empty"),
        ("u-1,ada@example.com,,PST,,,,,,", "line 2: timezone='PST' should be an IANA name"),
        ("u-1,ada@example.com,,,2026-10-01,,,,,", "line 2: signed_up_at is '2026-10-01'"),
        ("u-1,ada@example.com,,,2026-10-01 09:30,,,,,", "line 2: signed_up_at is '2026-10-01 09:30'"),
        ("u-1,ada@example.com,,,2026-10-01 6045550199,,,,,", "line 2: signed_up_at is '[number]'"),
        ("u-1,ada@example.com,,,,2099-10-01T08:00:00Z,,,,", "line 2: last_active_at="),
        (
            "u-1,ada@example.com,,,,,yes,form,2026-10-01T08:00:00Z,",
            "consent='yes' should be express or implied",
        ),
        ("u-1,ada@example.com,,,,,express,,2026-10-01T08:00:00Z,", "consent_source is empty"),
        ("u-1,ada@example.com,,,,,express,form,,", "consent_given_at is empty"),
        ("u-1,ada@example.com,,,,,implied,form,2026-10-01T08:00:00Z,", "implied consent ends"),
        ("u-1,ada@example.com,,,,,,form,,", "consent is empty"),
    ],
)
def test_a_wrong_line_is_named_with_its_field_and_value(
    audience: Audience, tmp_path: Path, line: str, fault: str
) -> None:
    found = run_import(tmp_path, HEAD, line, BO, code=2, more=())

    assert fault in " ".join(found.split())
    assert audience.rows(PEOPLE) == []


QUOTED = '"u-1","Ada@Example.com","Ada ""the first"", Countess","America/Vancouver",,,,,,'


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\n\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_file_is_read_as_spreadsheets_write_it(
    audience: Audience, tmp_path: Path, start: str, end: str
) -> None:
    """listmonk 65: after a byte order mark the first column was unknown."""
    file = tmp_path / "people.csv"
    head = ",".join(f'"{name.title()}"' for name in COLUMNS)
    file.write_bytes(start.encode() + end.join([head, QUOTED, ""]).encode())
    result = CliRunner().invoke(main, ["outreach", "import", "--shop", "harbour", "--csv", str(file)])

    assert result.exit_code == 0, result.output
    assert [row[:4] for row in audience.rows(PEOPLE)] == [
        ("u-1", "ada@example.com", 'Ada "the first", Countess', "America/Vancouver")
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_refused(audience: Audience, tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes("external_id,email,name\nu-1,ada@example.com,Zoë\n".encode(encoding))
    result = CliRunner().invoke(main, ["outreach", "import", "--shop", "harbour", "--csv", str(file)])

    assert (result.exit_code, "save it as CSV in UTF-8" in " ".join(result.output.split())) == (2, True)
    assert audience.rows(PEOPLE) == []


@pytest.mark.parametrize("typed", ["ADA@Müller.example", "ada@xn--mller-kva.example", " ada@müller.example "])
@pytest.mark.parametrize("stored", ["Ada@MÜLLER.example", "ada@xn--mller-kva.example"])
def test_a_person_with_a_unicode_domain_is_found_in_each_form(
    audience: Audience, stored: str, typed: str
) -> None:
    audience.add({"external_id": "ada", "email": stored}, {"external_id": "bo"})

    result = CliRunner().invoke(main, ["outreach", "unsubscribe", typed, "--shop", "harbour"])

    assert "Withdrew 1" in result.output
    assert audience.run("send-reminders", NINE) == {"sent": 1, "skipped": 1, "unsubscribed": 1}
    assert audience.rows("select address from mail_suppressions") == [("ada@xn--mller-kva.example",)]


def test_a_nightly_file_with_a_newer_consent_does_not_end_an_unsubscription(audience: Audience) -> None:
    """Mailtrain 325, listmonk 2192: an import subscribed people again who had left."""
    audience.add({"external_id": "ada"})
    CliRunner().invoke(main, ["outreach", "unsubscribe", "ada@example.com", "--shop", "harbour"])
    audience.add({"external_id": "ada", "consent_given_at": NINE - DAY})

    assert audience.run("send-reminders", NINE) == {"skipped": 1, "unsubscribed": 1}
    words = [
        "mail",
        "suppressions",
        "remove",
        "ada@example.com",
        "--shop",
        "harbour",
        "--reason",
        "she came back",
    ]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert audience.run("send-reminders", NINE, force=True) == {"sent": 1}


def test_a_person_twice_in_a_file_is_refused(audience: Audience, tmp_path: Path) -> None:
    assert "external_id='u-1' is in line 2 already" in run_import(tmp_path, HEAD, ADA, ADA, code=2, more=())


def test_a_withdrawn_consent_is_not_given_again_by_an_import(audience: Audience, tmp_path: Path) -> None:
    run_import(tmp_path, HEAD, ADA)
    words = ["outreach", "unsubscribe", "ada@example.com", "--shop", "harbour"]
    assert "Would withdraw 1" in CliRunner().invoke(main, [*words, "--dry-run"]).output
    assert "Withdrew 1" in CliRunner().invoke(main, words).output
    run_import(tmp_path, HEAD, ADA)

    (one,) = json.loads(
        CliRunner().invoke(main, ["outreach", "consents", "--shop", "harbour", "--json"]).output
    )
    assert one["withdrawn_at"] is not None
    assert "no consent that holds" in CliRunner().invoke(main, words).output
    listed = CliRunner().invoke(main, ["outreach", "people", "--shop", "harbour"]).output
    assert "withdrawn" in listed


def test_people_are_imported_through_the_api(audience: Audience) -> None:
    client = sign_in_as(make_console(audience.engine), Role.OPERATOR)
    headers = {"X-CSRFToken": read_csrf_token(client)}
    url = "/api/v1/shops/harbour/people"
    person = {
        "external_id": "u-1", "email": "ada@example.com", "consent": "express", "consent_source": "app",
        "consent_given_at": (NINE - DAY).isoformat(),
    }  # fmt: skip

    planned = client.post(url, json={"people": [person], "dry_run": True}, headers=headers)
    assert (planned.status_code, planned.json["new"], audience.rows(PEOPLE)) == (200, 1, [])
    assert client.post(url, json={"people": [person]}, headers=headers).json == {
        "new": 1, "changed": 0, "unchanged": 0, "consents": 1,
    }  # fmt: skip
    wrong = client.post(url, json={"people": [person | {"email": 7}]}, headers=headers)
    assert (wrong.status_code, wrong.json["error"]) == (422, "invalid")
    assert "people 1: email=7 should be a text" in wrong.json["detail"]
    assert client.post(url, json={"people": []}, headers=headers).status_code == 422
    assert client.post("/api/v1/shops/none/people", json={}, headers=headers).status_code == 404
    viewer = sign_in_as(make_console(audience.engine), Role.VIEWER)
    headers = {"X-CSRFToken": read_csrf_token(viewer)}
    assert viewer.post(url, json={"people": [person]}, headers=headers).status_code == 403


def test_large_imports_are_upserted_in_sets(audience: Audience) -> None:
    people = [{"external_id": f"u-{number}"} for number in range(5_003)]
    assert audience.add(*people).new == 5_003
    assert audience.add(*people, now=NINE + timedelta(hours=1)).unchanged == 5_003
