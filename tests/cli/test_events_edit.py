"""``fleet events edit`` records what the console's "Edit and replay" records."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import Engine, text

from services.core.db import transaction
from tests.cli.commands import run
from tests.ledger.test_event_edit import BODY, EDITED, list_events
from tests.ledger_rows import accept, new_event


def edit(folder: Path, *more: str, original: bytes = BODY, edited: str = EDITED) -> Result:
    for name, content in (("body.json", original), ("edited.json", edited.encode())):
        (folder / name).write_bytes(content)
    files = ("--original", str(folder / "body.json"), "--file", str(folder / "edited.json"))
    return run("events", "edit", "1", *files, "--reason", "a typo", *more)


def test_an_edit_is_shown_first_and_recorded_once(engine: Engine, harbour: str, tmp_path: Path) -> None:
    accept(engine, new_event(1, body=BODY, topic="customers/update"))

    planned = json.loads(edit(tmp_path, "--dry-run", "--json").output)
    assert [one["path"] for one in planned["changes"]] == ["$.email"]
    assert (planned["event"], len(list_events())) == (None, 1)

    done = json.loads(edit(tmp_path, "-f", "--json").output)
    original, copy = list_events()
    assert (original["body"], copy["body"]) == (BODY, EDITED.encode()), "the bytes of the file"
    assert (done["event"], copy["replay_of"], copy["origin"]) == (copy["id"], 1, "edit")

    again = edit(tmp_path, "-f")
    assert (again.exit_code, len(list_events())) == (2, 2)
    assert f"recorded already, as event {copy['id']}" in again.output


@pytest.mark.parametrize(
    ("topic", "original", "edited", "fault"),
    [
        ("customers/update", BODY + b" ", EDITED, "by a redaction"),
        ("customers/update", BODY, BODY.decode(), "changes no value"),
        ("customers/update", BODY, "{", "should be a JSON object"),
        ("customers/update", BODY, EDITED.replace("T11", "T12"), "$.updated_at should stay"),
        ("customers/redact", BODY, EDITED, "are not edited"),
    ],
)
@pytest.mark.parametrize("more", ["--dry-run", "-f"])
def test_what_the_console_refuses_is_refused(
    engine: Engine, harbour: str, tmp_path: Path, topic: str, original: bytes, edited: str, fault: str,
    more: str,
) -> None:  # fmt: skip
    accept(engine, new_event(1, body=BODY, topic=topic))

    result = edit(tmp_path, more, original=original, edited=edited)

    assert (result.exit_code, len(list_events())) == (2, 1)
    assert fault in result.output


def test_bytes_that_are_no_text_are_refused(engine: Engine, harbour: str, tmp_path: Path) -> None:
    accept(engine, new_event(1, body=BODY, topic="customers/update"))
    (tmp_path / "body.json").write_bytes(BODY)
    (tmp_path / "edited.json").write_bytes(b'{"a": "\xff"}')

    files = ("--original", str(tmp_path / "body.json"), "--file", str(tmp_path / "edited.json"))
    result = run("events", "edit", "1", *files, "--reason", "x", "-f")

    assert (result.exit_code, len(list_events())) == (2, 1)


def test_the_question_names_money_and_the_audit_names_the_person(
    engine: Engine, harbour: str, tmp_path: Path
) -> None:
    accept(engine, new_event(1, body=BODY, topic="orders/updated"))

    shown = edit(tmp_path)
    assert "about money" in shown.output
    assert len(list_events()) == 1, "nobody confirmed it"

    assert edit(tmp_path, "-f", "--actor", "ada").exit_code == 0
    with transaction(engine) as tx:
        found = tx.execute(text("select staff_label from audit_events where action = 'event.edit'"))
        assert found.scalars().all() == ["ada"]
