"""``fleet mail transport`` and ``accounts`` with a real database; a wrong value is never written."""

import json

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, text

from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.mail.routes import find_routes
from services.mail.transports import MailRoute
from services.shops.connections import record_connection_broken, record_connection_ok
from services.shops.secrets import record_secret
from tests.mail.mails import audit_of, mail_settings
from tests.shopify.sample_payloads import add_shop

SENDER = "Harbour <mail@harbour.example>"
UUID = "3f2b8c1e-1111-2222-3333-444455556666"
GRAPH = ("--use", "graph", "--tenant-id", "harbour.example", "--client-id", UUID)


def fleet(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def change(*options: str) -> Result:
    return fleet("mail", "transport", "harbour", *options)


def stored(engine: Engine) -> object:
    with transaction(engine) as tx:
        return tx.execute(text("select settings from shop_config")).scalar_one()


@pytest.fixture
def harbour(engine: Engine) -> int:
    return add_shop(engine, "harbour")


def give(engine: Engine, shop_id: int, name: str, value: str) -> None:
    with transaction(engine) as tx:
        record_secret(tx, shop_id, name, value, utc_now())


def test_a_shop_without_a_choice_shows_the_fleets_transport(harbour: int) -> None:
    shown = json.loads(change("--json").output)

    values = {one["name"]: (one["value"], one["source"]) for one in shown["values"]}
    assert values["transport"] == ("smtp", "the fleet's MAIL_TRANSPORT")
    assert values["sender"] == ("Shopfleet <shopfleet@localhost>", "the fleet's MAIL_FROM")
    assert values["server"] == ("127.0.0.1:1025", "the fleet's SMTP_URL")
    assert (shown["connection"], shown["fault"]) == (None, "")
    assert "not used yet" in change().output


@pytest.mark.parametrize("password", ["pa%2Fss", "pa#ss", "12/ss", "p@ss"])
def test_no_part_of_a_password_is_shown(harbour: int, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    with mail_settings(monkeypatch, SMTP_URL=f"smtp://user:{password}@mail.example.com"):
        shown = change()

    assert shown.exit_code == 0, shown.output
    assert not any(part in shown.output for part in ("user", "pa%", "pa#", "12", "ss@", "p@"))


def test_without_the_secret_nothing_is_written_and_its_command_is_shown(engine: Engine, harbour: int) -> None:
    refused = change("--use", "resend", "--sender", SENDER)

    assert refused.exit_code == 2
    assert "fleet shops secret harbour resend-key --stdin" in refused.output
    assert stored(engine) == {}


def test_a_change_is_stored_audited_and_used_by_the_workers(engine: Engine, harbour: int) -> None:
    give(engine, harbour, "resend-key", "re_abcdefgh_12345678")

    changed = change("--use", "resend", "--sender", SENDER, "--as", "ada")

    assert changed.exit_code == 0, changed.output
    assert "fleet mail test ADDRESS --shop harbour" in changed.output
    assert "re_abc" not in changed.output
    assert stored(engine) == {"mail": {"transport": "resend", "sender": SENDER}}
    with transaction(engine) as tx:
        route = find_routes(tx, {harbour})[harbour]
        entry = tx.execute(
            text(
                "select e.staff_label, e.action, m.summary, m.before, m.after from audit_events e "
                "join audit_mutations m on m.event_id = e.id order by e.id desc limit 1"
            )
        ).one()
    assert isinstance(route, MailRoute)
    assert (route.transport, route.sender) == ("resend", SENDER)
    assert tuple(entry[:2]) == ("ada", "shop.mail")
    assert entry.summary == (
        f"mail of harbour is sent through resend as {SENDER}; before, through the fleet's transport"
    )
    assert (entry.before, entry.after) == ({}, {"transport": "resend", "sender": SENDER})


def test_a_dry_run_and_an_equal_choice_write_nothing(engine: Engine, harbour: int) -> None:
    dry = change("--sender", SENDER, "--dry-run")
    assert "would use the fleet's transport as Harbour" in dry.output
    assert stored(engine) == {}

    change("--sender", SENDER)
    entries = len(audit_of(engine))
    assert "nothing changed" in change("--sender", SENDER).output
    assert len(audit_of(engine)) == entries


def test_every_fault_is_reported_together_without_a_pasted_secret(engine: Engine, harbour: int) -> None:
    wrong = ("--tenant-id", "common", "--client-id", "Abc8Q~hidden", "--mailbox", "nobody")

    refused = change("--use", "graph", "--sender", "a@b.example, c@d.example", *wrong)

    assert refused.exit_code == 2
    for word in ("--sender=", "--tenant-id=", "--client-id=", "--mailbox='nobody'", "graph-client-secret"):
        assert word in refused.output
    assert "hidden" not in refused.output
    assert stored(engine) == {}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--use", "pigeon"), "'pigeon' should be one of smtp, graph"),
        (("--use", "file", "--mailbox", "mail@harbour.example"), "mailbox is only for graph"),
        (("--mailbox", "mail@harbour.example"), "mailbox is only for graph"),
        (GRAPH, "graph needs mailbox as well"),
        (("--default", "--use", "smtp"), "only --sender can be added"),
    ],
)
def test_wrong_usage_exits_with_2_and_changes_nothing(
    engine: Engine, harbour: int, options: tuple[str, ...], fault: str
) -> None:
    refused = change(*options)

    assert refused.exit_code == 2
    assert fault in refused.output.replace("\n", " ")
    assert stored(engine) == {}


def test_another_transport_keeps_the_sender_and_default_removes_all(engine: Engine, harbour: int) -> None:
    with transaction(engine) as tx:
        tx.execute(text('update shop_config set settings = \'{"theme": "dark"}\''))
    give(engine, harbour, "graph-client-secret", "Abc8Q~" + "x" * 34)
    assert change(*GRAPH, "--mailbox", "mail@harbour.example", "--sender", SENDER).exit_code == 0
    assert change("--tenant-id", UUID).exit_code == 0

    assert change("--use", "file").exit_code == 0
    assert stored(engine) == {"theme": "dark", "mail": {"transport": "file", "sender": SENDER}}

    assert change("--default").exit_code == 0
    assert stored(engine) == {"theme": "dark"}


def test_accounts_show_what_is_broken_since_when_and_what_to_do(engine: Engine, harbour: int) -> None:
    give(engine, harbour, "sendgrid-key", "SG.abcdefgh.ijklmnop")
    assert change("--use", "sendgrid").exit_code == 0
    now = utc_now()
    with transaction(engine) as tx:
        record_connection_ok(tx, None, "smtp", now)
        record_connection_broken(tx, harbour, "sendgrid", "sendgrid.key_refused", "HTTP 401", now)
        record_connection_broken(tx, harbour, "graph", "graph.client_secret_expired", "expired", now)

    lines = {
        (one["shop"], one["provider"]): one
        for one in json.loads(fleet("mail", "connections", "--json").output)
    }

    assert lines["(fleet)", "smtp"]["status"] == "ok"
    broken = lines["harbour", "sendgrid"]
    assert (broken["status"], broken["code"], broken["is_used"]) == ("broken", "sendgrid.key_refused", True)
    assert broken["to_do"].startswith("fleet shops secret harbour sendgrid-key --stdin; then fleet mail test")
    assert not lines["harbour", "graph"]["is_used"]
    assert "broken, not used any more" in fleet("mail", "connections").output
    assert "Connection: broken since" in change().output

    shown = json.loads(fleet("shops", "show", "harbour", "--json").output)["connections"]
    assert {one["provider"] for one in shown} == {"sendgrid", "graph"}
    assert "Connections" in fleet("shops", "show", "harbour").output


def test_without_connections_accounts_shows_the_test_command(engine: Engine) -> None:
    assert "fleet mail test ADDRESS" in fleet("mail", "connections").output
