"""The link to unsubscribe: one click without a sign-in."""

from random import Random
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError

from services.ingress.app import make_flask
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.outreach.consents import withdraw_reported
from tests.fakes.mail_events import sendgrid_body, sendgrid_event
from tests.mail.mails import mails_of
from tests.mail.test_mail_events import receive
from tests.outreach.audience import DAY, MAILS, NINE, Audience


@pytest.fixture
def client(audience: Audience) -> FlaskClient:
    audience.add({"external_id": "ada"}, {"external_id": "bo"})
    audience.start("send-reminders", NINE)
    audience.compose(NINE)
    return make_flask().test_client()


def read_path(audience: Audience, recipient: str = "ada@example.com") -> str:
    """Return the path of the link in the person's first mail."""
    query = f"select headers ->> 'List-Unsubscribe' from mail_outbox where recipient = '{recipient}'"  # noqa: S608
    return str(audience.rows(query)[0][0]).removeprefix("<https://hooks.example.com").removesuffix(">")


def test_get_shows_a_button_and_changes_nothing(audience: Audience, client: FlaskClient) -> None:
    """Mautic 14916: a HEAD request of a mailbox that checks links unsubscribed people."""
    for method in (client.get, client.head, client.options):
        assert method(read_path(audience)).status_code == 200
    page = client.get(read_path(audience))

    assert '<form method="post"><button>Unsubscribe</button></form>' in page.text
    assert "Harbour" in page.text
    assert "ada" not in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert audience.rows("select 1 from outreach_consents where withdrawn_at is not null") == []
    assert audience.rows("select 1 from mail_suppressions") == []
    assert audience.rows("select 1 from audit_events where action = 'outreach.unsubscribe'") == []


def test_post_withdraws_once_and_stops_the_mail_in_the_outbox(
    audience: Audience, client: FlaskClient
) -> None:
    path = read_path(audience)
    for _ in range(3):
        answer = client.post(path, data={"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200
        assert "Harbour sends you no more reminders or other commercial mail" in answer.text
        assert "hello@harbour.example" in answer.text

    audience.send()
    assert audience.rows(MAILS) == [("ada@example.com", "refused"), ("bo@example.com", "sent")]
    withdrawn = "select withdrawn_by from outreach_consents where withdrawn_at is not null"
    assert audience.rows(withdrawn) == [("link to unsubscribe",)]
    assert audience.rows("select address, reason from mail_suppressions") == [
        ("ada@example.com", "unsubscribed")
    ]
    entries = audience.rows("select staff_label from audit_events where action = 'outreach.unsubscribe'")
    assert entries == [("link to unsubscribe",)]
    assert audience.run("send-reminders", NINE + DAY) == {"sent": 1, "skipped": 1, "unsubscribed": 1}


@pytest.mark.parametrize(
    ("event", "is_withdrawn"),
    [("unsubscribe", True), ("group_unsubscribe", True), ("spamreport", True), ("bounce", False)],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_who_unsubscribes_or_complains_at_the_mail_service_gets_nothing_without_a_new_consent(
    audience: Audience, client: FlaskClient, event: str, is_withdrawn: bool, is_known: bool
) -> None:
    audience.monkeypatch.setattr("services.ledger.runner_transactional.utc_now", lambda: NINE + DAY)
    mail = mails_of(audience.engine)[0]
    body = sendgrid_body(sendgrid_event("e1", event, mail if is_known else None, email="Ada@Example.com"))
    receive(audience.engine, body, shop_id=audience.shop.id)
    runner = TransactionalRunner(audience.engine, "tests", Random(1))
    runner.run_batch(TOPICS["consent_withdraw"], withdraw_reported)
    is_stopped = is_withdrawn and (is_known or event == "spamreport")

    people = audience.rows(
        "select external_id, withdrawn_by from outreach_consents join outreach_people p on p.id = person_id "
        "where withdrawn_at is not null"
    )
    assert people == ([("ada", "consent_withdraw")] if is_stopped else [])
    audited = audience.rows("select staff_label from audit_events where action = 'outreach.unsubscribe'")
    assert audited == ([("consent_withdraw",)] if is_stopped else [])
    with audience.engine.begin() as tx:
        tx.exec_driver_sql("delete from mail_suppressions")  # a person removes them
    skipped = audience.run("send-reminders", NINE + DAY).get("unsubscribed", 0)
    assert skipped == is_stopped


def test_a_link_of_a_year_ago_works(audience: Audience, client: FlaskClient) -> None:
    path = read_path(audience)
    with audience.engine.begin() as tx:
        tx.exec_driver_sql("update outreach_people set created_at = now() - interval '3 years'")
        tx.exec_driver_sql("update outreach_people set email = 'other@example.com' where external_id = 'ada'")

    assert client.post(path).status_code == 200
    assert audience.rows("select address from mail_suppressions") == [("other@example.com",)]


def forge(path: str, kind: str) -> str:
    start, series, signature = path.rsplit("/", 1)[1].split(".")
    forged = {
        "another person": f"{int(start) + 1}.{series}.{signature}",
        "another series": f"{start}.founder.{signature}",
        "an unknown series": f"{start}.none.{signature}",
        "one letter": f"{start}.{series}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        "no signature": f"{start}.{series}.",
        "a shorter signature": f"{start}.{series}.{signature[:-1]}",
        "nobody": f"999999.{series}.{signature}",
        "a number that no table has": f"{2**63}.{series}.{signature}",
        "another digit": f"²{start}.{series}.{signature}",
        "text": "x",
        "long text": "9" * 5000,
    }
    return f"/unsubscribe/{forged[kind]}"


KINDS = (
    "another person", "another series", "an unknown series", "one letter", "no signature",
    "a shorter signature", "nobody", "a number that no table has", "another digit", "text", "long text",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_forged_token_is_not_found_and_changes_nothing(
    audience: Audience, client: FlaskClient, kind: str
) -> None:
    path = forge(read_path(audience), kind)
    for answer in (client.get(path), client.post(path)):
        assert answer.status_code == 404
        assert "write to the sender" in answer.text
        assert "Harbour" not in answer.text
    assert audience.rows("select 1 from outreach_consents where withdrawn_at is not null") == []


def test_without_the_database_the_page_says_what_to_do(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("select", None, Exception("gone"), connection_invalidated=True)

    monkeypatch.setattr("services.ingress.unsubscribe.transaction", fail)
    for answer in (client.get("/unsubscribe/1.reminders.x"), client.post("/unsubscribe/1.reminders.x")):
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "30"
        assert "You are not unsubscribed yet" in answer.text
