"""What a ``fleet`` command does for an incident is on its timeline; nothing is done for a resolved one."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from tests.alerts.linked import LINK, list_actions, open_incident
from tests.cli.commands import run

COMMANDS = {
    "changed ai_cap, owner_email of harbour": (
        "shops", "set", "harbour", "--ai-cap", "50.00 CAD", "owner_email=a@b.example",
    ),
    "recorded twilio-credentials of harbour": (
        "shops", "secret", "harbour", "twilio-credentials", "--from-file", "FILE",
    ),
    "runs daily-reconciliation for 2026-11-20 at harbour": (
        "jobs", "run", "daily-reconciliation", "--shop", "harbour", "--period", "2026-11-20",
    ),
    "confirmed the privacy request 1: closed": ("privacy", "confirm", "1", "--reason", "closed", "-f"),
    "rejected the privacy request 1: forged": ("privacy", "reject", "1", "--reason", "forged", "-f"),
}  # fmt: skip


@pytest.fixture
def incident(engine: Engine, harbour: str) -> None:
    """An open incident with the id 1, and a request to erase the shop."""
    open_incident(engine)
    with transaction(engine) as tx:
        tx.execute(
            text(
                "insert into privacy_requests (shop_id, kind, customer_id, received_at, due_at, status,"
                " event_id, result) values (1, 'shop_redact', null, now(), now(), 'open', 1, '{}')"
            )
        )


def count_audit(engine: Engine) -> int:
    with transaction(engine) as tx:
        return int(tx.execute(text("select count(*) from audit_events")).scalar_one())


@pytest.mark.parametrize("done", COMMANDS)
def test_a_command_is_on_the_timeline_once_it_is_done(
    engine: Engine, incident: None, tmp_path: Path, done: str
) -> None:
    file = tmp_path / "secret"
    file.write_text("AC" + "0" * 32 + ":" + "1" * 32)
    file.chmod(0o600)
    command = [str(file) if word == "FILE" else word for word in COMMANDS[done]]
    before = count_audit(engine)

    planned = run(*command, *LINK, "--dry-run")
    assert (planned.exit_code, list_actions(engine), count_audit(engine)) == (0, [], before), planned.output
    run(*command, *LINK)
    assert list_actions(engine) == [("ada", done)]

    with transaction(engine) as tx:
        tx.execute(text("update incidents set status = 'resolved'"))
        tx.execute(text("update privacy_requests set status = 'open'"))
    changed = count_audit(engine)
    refused = run(*command, *LINK)
    assert (refused.exit_code, count_audit(engine)) == (1, changed), refused.output
    assert "is resolved already" in refused.output
