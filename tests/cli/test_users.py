"""``fleet users``: people, their roles, links, locks and second factors."""

import json
from datetime import timedelta

import pytest
from click.testing import Result
from sqlalchemy import Engine, text

from services.accounts.api_tokens import create_token, find_token_access, list_tokens
from services.accounts.people import find_access, get_person
from services.accounts.roles import Role
from services.accounts.sessions import find_session, start_session
from services.accounts.sign_in_locks import MAX_FAILURES, Subject, count_failure, find_lock
from services.alerts.incidents import Incident, record_incidents
from services.alerts.people import acknowledge, resolve_by_person
from services.core.clock import utc_now
from services.core.db import transaction
from tests.cli.commands import SECRET, run

ADA, BOB = "ada@example.com", "bob@example.com"
ACCOUNT = Subject("account", BOB)


def users(*arguments: str) -> Result:
    return run("users", *arguments)


def document(*arguments: str) -> dict[str, object]:
    result = users(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.output)
    return found


def count(query: str) -> int:
    with transaction() as tx:
        return int(tx.execute(text(query)).scalar_one())


@pytest.fixture(autouse=True)
def ada(engine: Engine) -> None:
    """The fleet has one owner."""
    assert users("add", ADA, "--role", "owner", "--as", "root").exit_code == 0


def add_bob(*role: str) -> None:
    assert users("add", BOB, *(role or ("--role", "operator"))).exit_code == 0


def test_a_person_is_added_with_a_link_and_an_audit_entry() -> None:
    made = users("add", BOB, "--role", "operator", "--as", "ada")

    assert made.exit_code == 0
    added, link = made.output.splitlines()
    assert added == f"Added {BOB} as operator. The link works once, within an hour:"
    assert link.startswith("http://localhost:8001/sign-in/forgot/")
    assert document("add", "eve@example.com", "--role", "viewer")["changed"] is True
    assert count("select count(*) from audit_events where action = 'user.add' and staff_label = 'ada'") == 1


def test_a_dry_run_adds_nobody_and_makes_no_link() -> None:
    planned = document("add", BOB, "--role", "viewer", "--dry-run")

    assert planned.pop("dry_run") is True
    assert planned == {"email": BOB, "role": "viewer", "shop": None, "link": "", "changed": False}
    assert count("select count(*) from users") == 1


def test_a_role_at_a_shop_is_shown_with_the_shop(harbour: str) -> None:
    add_bob("--role", "operator", "--shop", harbour)

    found = json.loads(users("list", "--json").output)
    assert [(one["email"], one["roles"]) for one in found] == [
        (ADA, {"fleet": "owner"}),
        (BOB, {harbour: "operator"}),
    ]
    assert f"operator at {harbour}" in users("list").output


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "no address", "--role", "viewer"),
        ("add", ADA.upper(), "--role", "viewer"),
        ("add", BOB, "--role", "king"),
        ("add", BOB, "--role", "viewer", "--shop", "nowhere"),
        ("link", BOB),
        ("set", BOB, "--role", "viewer"),
        ("remove", BOB, "-f"),
        ("unlock", BOB),
        ("reset-mfa", BOB, "-f"),
    ],
)
def test_wrong_input_is_exit_code_2_and_changes_nothing(arguments: tuple[str, ...]) -> None:
    refused = users(*arguments)

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert count("select count(*) from audit_events where action <> 'user.link'") == 1


def test_the_link_is_mailed_if_wanted() -> None:
    assert users("add", BOB, "--role", "viewer", "--mail").exit_code == 0
    made = users("link", BOB, "--mail").output.splitlines()[-1]

    with transaction() as tx:
        mails = tx.execute(text("select recipient, subject, text from mail_outbox order by id")).all()
    assert [mail.recipient for mail in mails] == [BOB, BOB]
    assert mails[0].subject == "Set your password for Shopfleet"
    assert made in mails[1].text
    assert document("link", BOB)["email"] == BOB
    assert count("select count(*) from mail_outbox") == 2


def test_a_role_is_changed() -> None:
    add_bob()
    assert document("set", BOB, "--role", "admin", "--dry-run")["changed"] is False
    assert "operator" in users("list").output

    assert users("set", BOB, "--role", "admin").output == f"{BOB} is admin.\n"
    assert document("set", BOB, "--role", "viewer")["changed"] is True


def test_a_role_at_a_shop_or_in_the_fleet_is_taken_away_and_tokens_and_sessions_see_it(harbour: str) -> None:
    add_bob("--role", "viewer")
    assert users("set", BOB, "--role", "operator", "--shop", harbour).exit_code == 0
    with transaction() as tx:
        bob = find_access(tx, get_person(tx, BOB).id)
        assert bob is not None
        token = create_token(tx, bob, "ci", Role.VIEWER, timedelta(days=1), by="t", now=utc_now())

    taken = users("set", BOB, "--role", "none", "--shop", harbour, "--dry-run")
    assert taken.output == f"{BOB} would be viewer.\n"
    assert users("set", BOB, "--role", "none", "--shop", harbour).output == f"{BOB} is viewer.\n"
    assert document("set", BOB, "--role", "none", "--shop", harbour)["changed"] is False
    left = users("set", BOB, "--role", "none", "--as", "ada")
    assert left.output == f"{BOB} is without a role and cannot sign in.\n"
    with transaction() as tx:
        assert find_access(tx, bob.user_id) is None
        assert find_token_access(tx, token, "", utc_now()) is None
    assert count("select count(*) from audit_events where action = 'user.roles'") == 3
    assert users("set", BOB, "--role", "viewer").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [("remove", ADA, "-f"), ("set", ADA, "--role", "admin"), ("set", ADA, "--role", "none")],
)
def test_the_last_owner_stays_until_there_is_another_one(arguments: tuple[str, ...]) -> None:
    refused = users(*arguments)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "is the last owner" in refused.stderr

    add_bob("--role", "owner")
    assert users(*arguments).exit_code == 0


def test_a_removal_ends_sessions_and_tokens_and_lists_what_to_rotate(harbour: str) -> None:
    add_bob("--role", "admin")
    assert run("shops", "secret", harbour, "shopify-webhook", "--stdin", answer=SECRET).exit_code == 0
    now = utc_now()
    with transaction() as tx:
        bob = find_access(tx, get_person(tx, BOB).id)
        assert bob is not None
        session = start_session(tx, bob.user_id, "127.0.0.1", "", now)
        token = create_token(tx, bob, "ci", Role.VIEWER, timedelta(days=1), by="t", now=now)

    planned = document("remove", BOB, "--dry-run")
    assert planned == {
        "email": BOB,
        "rotate": [f"fleet shops secret {harbour} shopify-webhook"],
        "incidents": [],
        "changed": False,
        "dry_run": True,
    }
    with transaction() as tx:
        assert find_session(tx, session, now) == (bob.user_id, False)

    removed = users("remove", BOB, "-f")
    assert removed.output.splitlines() == [
        f"Removed {BOB}.",
        "They could read these secrets. Rotate each:",
        f"  fleet shops secret {harbour} shopify-webhook",
    ]
    with transaction() as tx:
        assert find_session(tx, session, now) is None
        assert find_token_access(tx, token, "", now) is None


def test_the_incidents_of_a_person_who_is_removed_have_no_holder() -> None:
    assert users("add", BOB, "--role", "operator").exit_code == 0
    now = utc_now()
    with transaction() as tx:
        rules = ("secret_old", "heartbeat_old", "work_dead", "gap_healed")
        record_incidents(tx, [Incident(None, rule, "2026-11-20", "P1", "x") for rule in rules], now)
        ids = list(tx.execute(text("select id from incidents order by id")).scalars())
        for incident_id, holder in zip(ids, (BOB, BOB, ADA, BOB), strict=True):
            acknowledge(tx, incident_id, by=holder, now=now)
        resolve_by_person(tx, ids[3], by=BOB, reason="done", now=now)
    assert document("remove", BOB, "--dry-run")["incidents"] == ids[:2]
    assert count("select count(*) from incidents where acknowledged_by is null") == 0

    assert f"To take them: fleet incidents ack {ids[0]} {ids[1]}\n" in users("remove", BOB, "-f").output
    with transaction() as tx:
        rows = tx.execute(text("select acknowledged_by, acknowledged_at is null from incidents order by id"))
        assert [tuple(row) for row in rows] == [(None, True), (None, True), (ADA, False), (BOB, False)]
        entries = text("select text from incident_entries where kind = 'release'")
        assert tx.execute(entries).scalars().all() == [f"{BOB} was removed"] * 2


def test_a_removal_without_a_yes_removes_nobody() -> None:
    add_bob()
    assert run("users", "remove", BOB, answer="n\n").exit_code != 0
    assert count("select count(*) from users") == 2


def test_a_locked_account_is_unlocked() -> None:
    add_bob()
    for _ in range(MAX_FAILURES["account"]):
        with transaction() as tx:
            count_failure(tx, [ACCOUNT], utc_now())

    assert users("unlock", BOB, "--dry-run").output == f"{BOB} would be unlocked.\n"
    with transaction() as tx:
        assert find_lock(tx, [ACCOUNT], utc_now()) is not None
    assert document("unlock", BOB) == {"email": BOB, "changed": True}
    with transaction() as tx:
        assert find_lock(tx, [ACCOUNT], utc_now()) is None
    assert users("unlock", BOB).output == f"{BOB} has no failed sign-ins.\n"


def test_a_reset_deletes_second_factors_ends_sessions_and_is_mailed() -> None:
    add_bob()
    with transaction() as tx:
        tx.execute(text("update users set tf_totp_secret = 'x', tf_primary_method = 'authenticator'"))
        bob = find_access(tx, get_person(tx, BOB).id)
        assert bob is not None
        start_session(tx, bob.user_id, "127.0.0.1", "", utc_now())
        create_token(tx, bob, "ci", Role.VIEWER, timedelta(days=1), by="t", now=utc_now())

    planned = document("reset-mfa", BOB, "--dry-run")
    assert (planned["sessions_ended"], planned["tokens_ended"], planned["changed"]) == (1, 1, False)
    assert count("select count(*) from mail_outbox") == 0
    assert count("select count(*) from users where tf_totp_secret is not null") == 2
    done = users("reset-mfa", BOB, "-f")

    assert done.output == f"The second factors of {BOB} are deleted; 1 session and 1 API token end.\n"
    with transaction() as tx:
        assert not get_person(tx, BOB).has_codes
        assert not list_tokens(tx, bob.user_id)
        audited = tx.execute(text("select mutations from audit_events order by id desc limit 1")).scalar_one()
        assert "1 API token end" in audited
        assert get_person(tx, ADA).has_codes
        subject = tx.execute(text("select subject from mail_outbox")).scalar_one()
    assert subject == "Your second factors were deleted"
