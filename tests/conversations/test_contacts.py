"""A contact of Quo names its merchant and adds addresses; a deleted one takes both away."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from services.conversations.contacts import read_contact
from services.core.db import transaction
from services.providers.notion import Notion
from tests.conversations.notion_shop import NOTION_KEY, NotionShop, shop_with_notion
from tests.conversations.quo_events import make_call, make_message, stamp

ADA = "+15550000002"


@pytest.fixture
def acme(engine: Engine) -> Iterator[NotionShop]:
    with shop_with_notion(engine) as one:
        one.receive(make_call())
        one.run_to_the_end()
        yield one


def contact(
    *addresses: str, name: str = "Ada", seconds: float = 100, kind: str = "contact.updated"
) -> dict[str, Any]:
    fields = {
        "firstName": name,
        "lastName": "Byron",
        "phoneNumbers": [{"name": "mobile", "value": one} for one in addresses if "@" not in one],
        "emails": [{"name": "work", "value": one} for one in addresses if "@" in one],
    }
    resource = {"id": "CT1", **({} if kind == "contact.deleted" else {"defaultFields": fields})}
    data = {"resource": resource, "context": {}}
    return {"id": "EV9", "apiVersion": "2026-03-30", "createdAt": stamp(seconds), "type": kind, "data": data}


def receive(acme: NotionShop, event: dict[str, Any]) -> list[Any]:
    acme.receive(event)
    acme.run("contact_ingest")
    acme.run_to_the_end()
    (result,) = acme.rows(
        "select result from work_queue where topic = 'contact_ingest' order by id desc limit 1"
    )
    return [result[0], *acme.rows("select name, phones, mails from merchants order by id")]


def test_a_contact_names_the_page_of_its_number(acme: NotionShop) -> None:
    found = receive(acme, contact("+1 (555) 000-0002", "Ada@Example.com"))
    assert found == ["done", ("Ada Byron", [ADA], ["ada@example.com"])]
    (page,) = acme.pages()
    assert page["properties"]["Name"]["title"][0]["plain_text"] == "Ada Byron"
    assert page["properties"]["Email"]["email"] == "ada@example.com"


def test_a_contact_whose_page_was_deleted_gets_another_with_everything(acme: NotionShop) -> None:
    (page,) = acme.pages()
    Notion(f"{acme.server.url}/notion", NOTION_KEY).update_page(page["id"], in_trash=True)
    receive(acme, contact(ADA))
    (other,) = acme.pages()
    assert other["properties"]["Name"]["title"][0]["plain_text"] == "Ada Byron"
    assert (other["id"] != page["id"], len(other["texts"])) == (True, 1)
    assert acme.rows("select 1 from work_queue where status = 'dead'") == []


def test_a_call_from_another_number_of_the_contact_is_on_the_same_page(acme: NotionShop) -> None:
    receive(acme, contact(ADA, "+15550000009"))
    acme.receive(make_message("M1", number="+15550000009"))
    acme.run_to_the_end()
    assert [len(page["texts"]) for page in acme.pages()] == [2]


def test_a_number_with_a_message_stays_after_the_contact_is_deleted(acme: NotionShop) -> None:
    receive(acme, contact(ADA, "+15550000009", "+15550000010"))
    acme.receive(make_message("M1", number="+15550000009"))
    acme.run_to_the_end()
    found = receive(acme, contact(seconds=200, kind="contact.deleted"))
    assert found == ["done", ("", [ADA, "+15550000009"], [])]


def test_a_number_of_another_merchant_stays_there(acme: NotionShop) -> None:
    acme.receive(make_message("M1", number="+15550000009"))
    acme.run_to_the_end()
    found = receive(acme, contact(ADA, "+15550000009"))
    assert found[1:] == [("Ada Byron", [ADA], []), ("", ["+15550000009"], [])]


def test_a_deleted_contact_takes_its_name_and_the_addresses_without_a_conversation(acme: NotionShop) -> None:
    receive(acme, contact(ADA, "ada@example.com"))
    found = receive(acme, contact(seconds=200, kind="contact.deleted"))
    assert found == ["done", ("", [ADA], [])]
    (page,) = acme.pages()
    assert page["properties"]["Name"]["title"][0]["plain_text"] == ADA
    assert page["properties"]["Email"]["email"] is None
    assert len(page["texts"]) == 1


def test_an_older_event_changes_nothing(acme: NotionShop) -> None:
    receive(acme, contact(ADA, seconds=200))
    assert receive(acme, contact(ADA, name="Zed", seconds=100))[0] == "stale"
    assert receive(acme, contact("+15559999999", name="Zed"))[0] == "stale"


def test_a_contact_without_a_conversation_is_not_stored(acme: NotionShop) -> None:
    event = contact("+15559999999", name="Zed")
    assert receive(acme, event)[0] == "unknown"
    with transaction(acme.engine) as tx:
        tx.exec_driver_sql("update shop_config set notion_data_source = ''")
    assert receive(acme, contact(ADA))[0] == "ignored"


def test_no_name_is_in_the_audit(acme: NotionShop) -> None:
    receive(acme, contact(ADA, "ada@example.com"))
    found = acme.rows("select summary from audit_mutations where summary like 'merchant 1: %'")
    assert found == [("merchant 1: name and addresses changed, as in contact CT1",)]


def test_both_formats_of_a_contact_are_read() -> None:
    legacy = {
        "firstName": "Ada", "lastName": None, "company": "Byron Ltd",
        "fields": [
            {"name": "Phone", "type": "phone-number", "value": ADA},
            {"name": "Mail", "type": "email", "value": "ada@example.com"},
            {"name": "Shoe size", "type": "number", "value": "42"},
        ],
    }  # fmt: skip
    assert read_contact(legacy) == ("Ada", [ADA, "ada@example.com"])
    assert read_contact({"company": "Byron Ltd"}) == ("Byron Ltd", [])
