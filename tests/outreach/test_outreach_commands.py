"""What a person changes and reads of outreach at a shop: texts, people and figures."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from services.core.clock import utc_now
from tests.cli.commands import run
from tests.fakes.settings import settings_of
from tests.outreach.audience import NINE, Audience

SUBJECTS = "select subject from mail_outbox order by id"


def change(*more: str, code: int = 0, kind: str = "reminders") -> str:
    result = run("outreach", "text", kind, "--shop", "harbour", *more)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def file(tmp_path: Path) -> str:
    body = tmp_path / "body.txt"
    body.write_text("Hello {name},\n\ncome back to {shop}.")
    return str(body)


def test_a_text_is_shown_used_and_taken_back(audience: Audience, file: str) -> None:
    assert "The usual text:\nSubject: A reminder from {shop}" in change("--show")
    assert "already" in change("--default")
    new = ("--subject", "A minute, {name}?", "--file", file)
    change(*new, "--dry-run")
    assert json.loads(change("--show", "--json"))["is_default"] is True
    change(*new)
    shown = json.loads(change("--show", "--json"))
    assert (shown["is_default"], shown["subject"]) == (False, "A minute, {name}?")
    assert "come back to {shop}." in shown["body"]
    preview = run("mail", "preview", "outreach_mail", "--shop", "harbour", "--text").output
    assert "Subject: A minute, Ada?" in preview
    assert "come back to Harbour." in preview

    change("--default", "--dry-run")
    assert "The text of harbour:" in change("--show")
    assert "has the subject 'A reminder from {shop}'" in change("--default")
    audience.add({"external_id": "ada"})
    audience.run("send-reminders", NINE)
    assert audience.rows(SUBJECTS) == [("A reminder from Harbour",)]
    entries = audience.rows("select count(*) from audit_events where action = 'outreach.text'")
    assert entries == [(2,)], "one for the new text, one for the return"


def test_the_list_of_people_names_what_stops_their_mail(audience: Audience) -> None:
    audience.add({"external_id": "ada"}, {"external_id": "bo"})
    run("mail", "suppressions", "add", "ada@example.com", "--shop", "harbour", "--reason", "wrong address")

    found = json.loads(run("outreach", "people", "--shop", "harbour", "--json").stdout)
    assert [one["stopped_by"] for one in found] == [["blocked_by_person"], []]
    assert "stopped by" in run("outreach", "people", "--shop", "harbour").output


def test_a_preview_adds_no_lost_steps_to_people(audience: Audience) -> None:
    audience.add({"external_id": "bo", "signed_up_at": utc_now() - timedelta(days=5)}, now=utc_now())

    first = run("outreach", "preview", "founder", "--shop", "harbour").output.splitlines()[0]
    assert first == "harbour: 1 not_due; 3 steps too_late"


def test_people_who_are_not_due_do_not_fail_in_a_shop_without_a_sender(audience: Audience) -> None:
    audience.add({"external_id": "ada"}, {"external_id": "bo", "consent": ""})
    with settings_of(SMTP_URL=audience.smtp.url, PUBLIC_URL=""):
        assert audience.run("send-reminders", NINE) == {"failed": 1}


@pytest.mark.parametrize("subject", ["Hola {nope}", "Hola {Name}", "Hola { name }", "Hola {}"])
@pytest.mark.parametrize("is_body", [False, True])
def test_a_placeholder_that_would_go_out_as_it_is_is_refused(
    audience: Audience, tmp_path: Path, subject: str, is_body: bool
) -> None:
    file = tmp_path / "body.txt"
    file.write_text(subject if is_body else "Hello {name} of {shop}: {last_active}")
    found = change("--subject", "Hola" if is_body else subject, "--file", str(file), code=2)

    assert f"'{subject[5:]}' should be one of {{name}}, {{shop}}, {{last_active}}" in found
    assert audience.rows("select 1 from outreach_texts") == []


@pytest.mark.parametrize(
    ("kind", "step", "fault"),
    [
        ("reminders", "day1", "reminders has no steps, leave --step out"),
        ("founder", "", "founder needs --step day1, day2 or day3"),
        ("founder", "day4", "founder needs --step day1, day2 or day3"),
    ],
)
def test_a_wrong_step_is_named_with_what_is_right(
    audience: Audience, file: str, kind: str, step: str, fault: str
) -> None:
    for more in (("--show",), ("--default",), ("--subject", "Hola", "--file", file)):
        assert fault in change("--step", step, *more, kind=kind, code=2)


@pytest.mark.parametrize(
    "given", [(), ("--show", "--default"), ("--subject", "Hola"), ("--show", "--file", "-")]
)
def test_one_of_a_text_its_display_and_its_return_is_needed(
    audience: Audience, given: tuple[str, ...]
) -> None:
    assert "--subject" in change(*given, code=2)
