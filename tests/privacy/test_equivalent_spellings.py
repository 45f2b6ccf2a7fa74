"""A person is found with composed and with decomposed accents, wherever either is stored."""

from typing import Any
from unicodedata import normalize

import orjson
import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.mail.message import Attachment
from services.mail.outbox import record_mails
from services.privacy.text_data import REDACTED_HEADER
from tests.ledger_rows import NOW, accept, new_event
from tests.privacy.customers import JOHN, dump_rows, find_words, request_privacy
from tests.privacy.test_customer_redaction import mail
from tests.shopify.sample_payloads import rows


@pytest.mark.parametrize("stored_as", ["NFC", "NFD"])
@pytest.mark.parametrize("written_as", ["NFC", "NFD"])
def test_a_name_and_an_address_are_found_composed_and_decomposed(
    shop: Engine, stored_as: Any, written_as: Any
) -> None:
    with transaction(shop) as tx:
        name, email = (normalize(stored_as, one) for one in ("Élise Ångström", "élise@example.com"))
        tx.execute(
            text("update customers set name = :name, email = :email where customer_id = :id"),
            {"id": JOHN, "name": name, "email": email},
        )
        words = normalize(written_as, "ÉLISE ÅNGSTRÖM, Élise@example.com")
        part = Attachment(name="a.csv", content_type="text/csv", content=words.encode())
        record_mails(tx, [mail(1, "owner@harbour.example", words, part)], NOW)
    body = orjson.dumps({"email": normalize(written_as, email), "note": words})
    (event,) = accept(shop, new_event(900, topic="nobody/planned", body=body))

    request_privacy(shop, "customers/redact", 200)

    assert find_words(normalize("NFC", dump_rows(shop)), ("Élise", "Ångström")) == set()
    headers = rows(shop, "select headers from inbound_events where id = :id", id=event.event_id)
    assert REDACTED_HEADER in headers[0][0]
