"""A redaction and an export know the merchants, and the page at Notion goes to the trash."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.conversations.cache import find_entries, store_entry
from services.conversations.cache_copies import read_copies, write_copies
from services.core.clock import utc_now
from services.core.db import transaction
from services.privacy.merchant_data import find_merchant_rows, redact_merchants
from services.privacy.subject import DataSubject
from tests.conversations.notion_shop import NotionShop, shop_with_notion
from tests.conversations.quo_events import make_call, make_message

ADA = frozenset({"15550000002"})


@pytest.fixture
def acme(engine: Engine) -> Iterator[NotionShop]:
    with shop_with_notion(engine) as one:
        one.receive(make_call(), make_message("M1", number="+15550000003"))
        one.run_to_the_end()
        yield one


def test_an_export_has_the_merchant_with_the_number(acme: NotionShop) -> None:
    with transaction(acme.engine) as tx:
        (row,) = find_merchant_rows(tx, DataSubject(shop_id=acme.shop.id, phones=ADA))
    assert row["phones"] == ["+15550000002"]


def test_a_redaction_empties_the_merchant_and_puts_its_page_in_the_trash(acme: NotionShop) -> None:
    assert len(acme.pages()) == 2
    with transaction(acme.engine) as tx:
        subject = DataSubject(shop_id=acme.shop.id, phones=ADA)
        assert redact_merchants(tx, subject, utc_now()) == {"merchants": 1, "canvas_cache": 1}
    acme.run_to_the_end()

    (page,) = acme.pages()
    assert page["properties"]["Phone"]["phone_number"] == "+15550000003"
    assert acme.rows("select phones, page_id from merchants where redacted_at is not null") == [([], "")]
    with transaction(acme.engine) as tx:
        assert redact_merchants(tx, subject, utc_now()) == {"merchants": 0, "canvas_cache": 0}


def test_a_redaction_of_a_whole_shop_plans_no_call_because_the_key_is_retired(acme: NotionShop) -> None:
    with transaction(acme.engine) as tx:
        subject = DataSubject(shop_id=acme.shop.id, whole_shop=True)
        assert redact_merchants(tx, subject, utc_now()) == {"merchants": 2, "canvas_cache": 2}
    assert acme.rows("select 1 from work_queue where finished_at is null") == []


def test_a_late_event_of_a_redacted_number_is_another_merchant(acme: NotionShop) -> None:
    with transaction(acme.engine) as tx:
        redact_merchants(tx, DataSubject(shop_id=acme.shop.id, phones=ADA), utc_now())
    acme.receive(make_message("M2"))
    acme.run_to_the_end()

    assert len(acme.pages()) == 2
    assert acme.rows("select count(*) from merchants") == [(3,)]


def test_a_redaction_deletes_entries_without_a_merchant_and_all_copies(
    acme: NotionShop, broker_url: str
) -> None:
    del broker_url  # empties Valkey
    ada, eve = (acme.shop.id, "+15550000002"), (acme.shop.id, "eve@example.com")
    others = (acme.shop.id, "+15550000003"), (acme.shop.id, "bob@example.com")
    now = utc_now()
    with transaction(acme.engine) as tx:
        for address in (eve, others[1]):
            store_entry(tx, address, 0, "a-page", now)
        write_copies(find_entries(tx, (ada, eve, *others), now).values(), now)
        subject = DataSubject(shop_id=acme.shop.id, phones=ADA, emails=frozenset({eve[1]}))
        assert redact_merchants(tx, subject, now)["canvas_cache"] == 2
        assert set(find_entries(tx, (ada, eve, *others), now)) == set(others)
    assert set(read_copies((ada, eve, *others), now)) == set(others)
