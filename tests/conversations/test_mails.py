"""A mail is on the page of its sender, whether it came as a Standard Webhook or from Resend."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.shops.secrets import record_secret
from services.shops.shops import set_shop
from tests.conversations.notion_shop import NotionShop, shop_with_notion
from tests.fakes.settings import settings_of
from tests.fakes.web import Answer, Web

MAIL = {
    "id": "m-1",
    "from": "Ada <Ada@Example.com>",
    "to": ["hello@acme.example"],
    "subject": "Order 1042",
    "text": "Where is it?",
    "at": "2026-11-20T18:00:00Z",
}
RESEND = {
    "type": "email.received",
    "created_at": "2026-11-20T18:00:01.000Z",
    "data": {
        "email_id": "56761188-7520-42d8-8898-ff6fc54ce618",
        "created_at": "2026-11-20T18:00:00.000Z",
        "from": "Ada <ada@example.com>",
        "to": ["hello@acme.example"],
        "subject": "Order 1042",
        "message_id": "<1@example.com>",
        "bcc": [],
        "cc": [],
        "attachments": [],
    },
}
SENDER_FIRST = ["2026-11-20 18:00 UTC · Mail · incoming"]


@pytest.fixture
def acme(engine: Engine) -> Iterator[NotionShop]:
    with shop_with_notion(engine) as one:
        yield one


def receive(acme: NotionShop, **changes: Any) -> None:
    acme.receive({"type": "untyped", **MAIL, **changes}, provider="standard:mail")
    acme.run_to_the_end()


def test_a_mail_of_the_documented_form_is_on_the_page_of_its_sender(acme: NotionShop) -> None:
    receive(acme)
    receive(acme)  # the same mail in another delivery
    (page,) = acme.pages()
    assert page["properties"]["Email"]["email"] == "ada@example.com"
    assert acme.titles() == [SENDER_FIRST]
    assert acme.rows("select provider_id, body, page_state from interactions") == [
        ("mail:m-1", "Where is it?", "written")
    ]


def test_a_mail_that_the_shop_sent_is_on_the_page_of_its_recipient(acme: NotionShop) -> None:
    with transaction(acme.engine) as tx:
        set_shop(tx, "acme", {"mail_contact": "Hello@acme.example"}, now=utc_now())
    receive(acme, **{"from": "hello@acme.example", "to": "hello@acme.example, ada@example.com"})
    receive(acme, id="m-2", to=["hello@acme.example", "ada@example.com"], **{"from": "hello@acme.example"})
    assert acme.titles() == [["2026-11-20 18:00 UTC · Mail · outgoing"] * 2]


def test_a_mail_of_an_address_that_is_too_long_for_a_property_is_on_a_page(acme: NotionShop) -> None:
    address = f"{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}.example"
    for mail_id in ("m-1", "m-2"):
        receive(acme, id=mail_id, **{"from": address})
    (page,) = acme.pages()
    assert page["properties"]["Name"]["title"][0]["plain_text"] == address[:200]
    assert page["properties"]["Email"]["email"] is None
    assert acme.titles() == [SENDER_FIRST * 2]


def test_mails_and_calls_of_one_contact_are_on_one_page(acme: NotionShop) -> None:
    from tests.conversations.quo_events import make_call
    from tests.conversations.test_contacts import ADA, contact

    acme.receive(make_call())
    acme.run_to_the_end()
    acme.receive(contact(ADA, "ada@example.com"))
    acme.run("contact_ingest")
    receive(acme)
    assert [len(page["texts"]) for page in acme.pages()] == [2]


def test_the_text_of_a_mail_that_resend_received_is_fetched(acme: NotionShop) -> None:
    with transaction(acme.engine) as tx:
        record_secret(tx, acme.shop.id, "resend-key", "re_acme", utc_now())
    body = orjson.dumps({"object": "email", "text": "Where is it?", "html": "<p>Where is it?</p>"})
    with Web(Answer(500), Answer(body=body)) as resend, settings_of(RESEND_API_BASE=resend.url):
        acme.receive(RESEND, provider="resend")
        acme.run_to_the_end()

    assert [(one.method, one.path) for one in resend.requests] == [
        ("GET", "/emails/receiving/56761188-7520-42d8-8898-ff6fc54ce618")
    ] * 2
    assert resend.requests[0].headers["authorization"] == "Bearer re_acme"
    assert acme.titles() == [SENDER_FIRST]
    assert acme.rows("select body from interactions") == [("Where is it?",)]


def test_a_mail_of_resend_without_a_key_has_its_subject(acme: NotionShop) -> None:
    acme.receive(RESEND, provider="resend")
    acme.run_to_the_end()
    assert acme.titles() == [SENDER_FIRST]
    found = acme.rows("select result from work_queue where topic = 'interaction_fetch'")
    assert found == [("skipped",)]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"id": None}, "id is None"),
        ({"at": "yesterday"}, "at is"),
        ({"from": "nobody"}, "it should be a mail address such as Ada"),
    ],
)
def test_a_mail_without_a_readable_field_is_dead_and_names_it(
    acme: NotionShop, changes: dict[str, Any], fault: str
) -> None:
    receive(acme, **changes)
    ((code, error),) = acme.rows("select error_code, last_error from work_queue")
    assert code == "mail.unreadable_event"
    assert fault in error


def test_no_address_and_no_text_is_in_the_audit(acme: NotionShop) -> None:
    receive(acme)
    found = " ".join(str(row) for row in acme.rows("select summary, before, after from audit_mutations"))
    assert "mail mail:m-1 recorded: no status" in found
    assert not [word for word in ("example.com", "Order 1042", "Where") if word in found]
