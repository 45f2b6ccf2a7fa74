"""A redaction removes a person from rows, bodies, mails and exports; figures stay."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.accept import record_work
from services.ledger.filters import EventFilter
from services.ledger.replay import replay_events
from services.mail.message import Attachment, Mail
from services.mail.outbox import record_mails
from services.privacy import data_sources
from services.privacy.data_sources import list_data_sources
from services.privacy.text_data import REDACTED_HEADER
from services.providers.object_store import FolderStore
from tests.fakes.smtp import Scripted
from tests.ledger_rows import NOW
from tests.mail.mails import mail_settings, run
from tests.privacy.customers import (
    JANES,
    JOHN,
    JOHN_TOLD,
    JOHNS,
    JOHNS_ORDER,
    dump_rows,
    find_words,
    history,
    process_events,
    request_privacy,
    work,
)
from tests.shopify.sample_payloads import at, rows

FIGURES = ("orders", "order_lines", "order_refunds", "order_transactions", "fulfillments", "transactions")


def figures(engine: Engine) -> dict[str, list[Any]]:
    """Return the figures of the shop, without the ids of their last events."""
    return {
        table: rows(engine, f"select (to_jsonb(t) - 'event_id')::text from {table} t order by 1")  # noqa: S608
        for table in FIGURES
    }


def mail(number: int, recipient: str, words: str, *parts: Attachment) -> Mail:
    return Mail(
        shop_id=1,
        kind="owner_digest",
        period=f"week-{number}",
        recipient=recipient,
        subject=words,
        text=words,
        html=f"<p>{words}</p>",
        attachments=parts,
    )


def test_all_data_exists_before_the_request(shop: Engine) -> None:
    assert find_words(dump_rows(shop), JOHNS) == set(JOHNS)
    assert find_words(dump_rows(shop), JANES) == set(JANES)


def test_nothing_of_the_customer_is_left_in_any_table(shop: Engine) -> None:
    report = request_privacy(shop, "customers/redact", 200)

    assert report.done == 1
    assert find_words(dump_rows(shop), JOHNS) == set()


def test_other_customers_are_unchanged(shop: Engine) -> None:
    request_privacy(shop, "customers/redact", 200)

    assert find_words(dump_rows(shop), JANES) == set(JANES)


def test_orders_and_money_stay_as_they_were(shop: Engine) -> None:
    before = figures(shop)

    request_privacy(shop, "customers/redact", 200)

    assert figures(shop) == before
    assert all(before.values())


def test_replay_of_redacted_events_has_the_same_figures_and_no_personal_data(shop: Engine) -> None:
    before = figures(shop)
    request_privacy(shop, "customers/redact", 200)
    with transaction(shop) as tx:
        for table in FIGURES:
            tx.execute(text(f"delete from {table}"))  # noqa: S608
        replay_events(tx, EventFilter(provider="shopify"), now=utc_now(), by="ada")
        replay_events(tx, EventFilter(provider="stripe"), now=utc_now(), by="ada")

    process_events(shop)

    assert figures(shop) == before
    assert find_words(dump_rows(shop), JOHNS) == set()


def test_late_event_restores_no_personal_data(shop: Engine) -> None:
    request_privacy(shop, "customers/redact", 200)
    body = orjson.dumps(JOHN_TOLD | {"updated_at": at(9000)})

    process_events(shop, replace(history()[0], body=body, delivery_key="late"))

    assert rows(shop, "select name, email, phone from customers where customer_id = :id", id=JOHN) == [
        ("", "", "")
    ]


def test_a_redacted_body_says_so_and_keeps_ids_and_staff(shop: Engine) -> None:
    request_privacy(shop, "customers/redact", 200)

    ((body, headers),) = rows(shop, "select body, headers from inbound_events where topic = 'orders/updated'")
    document = orjson.loads(bytes(body))
    assert headers[REDACTED_HEADER]
    assert (document["id"], document["total_price"], document["customer"]["id"]) == (
        JOHNS_ORDER,
        "12.50",
        JOHN,
    )
    assert document["line_items"][0]["properties"][1] == {"name": "Mechanic", "value": "Rosa"}
    assert document["note_attributes"][1] == {"name": "staff", "value": "Ada"}
    assert (document["email"], document["shipping_address"]["address1"]) == (None, None)
    assert document["shipping_address"]["province_code"] == "ON"


def test_customer_data_is_removed_from_mails(shop: Engine) -> None:
    csv = Attachment(name="top.csv", content_type="text/csv", content=b"name,total\nJohn Smith,99\n")
    plain = Attachment(name="all.csv", content_type="text/csv", content=b"name,total\nJane Doe,99\n")
    with transaction(shop) as tx:
        to_john = mail(1, "John@example.com", "Your bike is ready")
        record_mails(
            tx, [to_john, mail(2, "owner@harbour.example", "Best: John Smith, Jane Doe", csv, plain)], NOW
        )

    request_privacy(shop, "customers/redact", 200)

    document = rows(shop, "select recipient, subject, text, status, error_code from mail_outbox order by id")
    assert document == [
        ("redacted@redacted.invalid", "[redacted]", "", "refused", "privacy.redacted"),
        ("owner@harbour.example", "Best: [redacted], Jane Doe", "Best: [redacted], Jane Doe", "queued", None),
    ]
    parts = [bytes(found[0]) for found in rows(shop, "select content from mail_parts order by place")]
    assert b"removed" in parts[0]
    assert parts[1] == plain.content
    assert find_words(dump_rows(shop), JOHNS) == set()


def test_earlier_export_is_removed_from_the_store_and_from_the_mail(
    shop: Engine, archive: FolderStore
) -> None:
    request_privacy(shop, "customers/data_request", 100)
    assert len(archive.find_keys("privacy/")) == 1
    assert find_words(dump_rows(shop), JOHNS) == set(JOHNS)

    request_privacy(shop, "customers/redact", 200)

    assert archive.find_keys("privacy/") == []
    assert find_words(dump_rows(shop), JOHNS) == set()


def test_the_request_is_done_with_its_counts_and_audited_by_number(shop: Engine) -> None:
    request_privacy(shop, "customers/redact", 200)

    ((kind, customer_id, status, days, result),) = rows(
        shop, "select kind, customer_id, status, due_at - received_at, result from privacy_requests"
    )
    assert (kind, customer_id, status, days.days) == ("redact", JOHN, "done", 30)
    assert result["rows"] == {
        "canvas_cache": 0, "customers": 1, "floor_orders": 0, "inbound_events": 12, "interactions": 1,
        "mail_outbox": 0,
        "mail_parts": 0, "mail_suppressions": 0, "merchants": 0, "outreach_consents": 0,
        "outreach_people": 0, "work_queue": 0,
    }  # fmt: skip
    summaries = rows(
        shop,
        "select m.table_name, m.summary from audit_events e join audit_mutations m on m.event_id = e.id"
        " where e.action = 'privacy.redact' order by 1",
    )
    assert summaries == [
        ("customers", "customer 191167 redacted: 1 row"),
        ("inbound_events", "customer 191167 redacted: 12 rows"),
        ("interactions", "customer 191167 redacted: 1 row"),
        ("privacy_requests", "customer 191167 redacted: 14 rows, 0 exports deleted"),
    ]


def test_request_for_an_unknown_customer_is_done_with_zero_counts(shop: Engine) -> None:
    unknown = {"id": 777001, "email": "nobody@example.net", "phone": None}

    report = request_privacy(shop, "customers/redact", 200, customer=unknown, orders_to_redact=[])

    assert report.done == 1
    ((result,),) = rows(shop, "select result from privacy_requests")
    # The request itself contains the unknown customer.
    assert {table: count for table, count in result["rows"].items() if count} == {"inbound_events": 1}
    assert find_words(dump_rows(shop), JOHNS) == set(JOHNS)


def test_a_second_request_finds_nothing(shop: Engine) -> None:
    request_privacy(shop, "customers/redact", 200)
    request_privacy(shop, "customers/redact", 201)

    ((result,),) = rows(shop, "select result from privacy_requests order by id desc limit 1")
    assert {table: count for table, count in result["rows"].items() if count} == {"inbound_events": 1}


def test_retry_after_a_crash_still_finds_the_subject(shop: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    last = next(source for source in list_data_sources() if source.tables == ("customers",))

    def fail(*_: object) -> dict[str, int]:
        raise RuntimeError("the power went")

    with monkeypatch.context() as broken:
        changed = [replace(one, redact=fail) if one is last else one for one in list_data_sources()]
        broken.setattr(data_sources, "DATA_SOURCES", tuple(changed))
        report = request_privacy(shop, "customers/redact", 200)
    assert len(report.retried) == 1
    assert find_words(dump_rows(shop), JOHNS)
    with transaction(shop) as tx:
        tx.execute(
            text("update work_queue set next_retry_at = now() - interval '1 s' where status = 'error'")
        )

    work(shop)

    assert find_words(dump_rows(shop), JOHNS) == set()


def test_without_holders_a_request_fails_and_does_not_report_a_redaction(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(data_sources, "DATA_SOURCES", ())
        report = request_privacy(shop, "customers/redact", 200)

    assert len(report.retried) == 1
    ((error,),) = rows(shop, "select last_error from work_queue where topic = 'privacy_redact'")
    assert "no source of personal data" in error


def test_request_without_a_customer_is_refused_with_a_reason(shop: Engine) -> None:
    request_privacy(shop, "customers/redact", 200, customer={"id": "x"})

    ((status, code, error),) = rows(
        shop, "select status, error_code, last_error from work_queue where topic = 'privacy_redact'"
    )
    assert (status, code) == ("dead", "shopify.unreadable_privacy_request")
    assert "id is 'x': it should be a whole number" in error


@pytest.mark.parametrize("orders", ["1001", 1001, {"id": 1001}, True])
def test_request_with_orders_that_are_no_list_is_refused_with_the_field(shop: Engine, orders: object) -> None:
    request_privacy(shop, "customers/redact", 200, orders_to_redact=orders)

    ((status, code, error),) = rows(
        shop, "select status, error_code, last_error from work_queue where topic = 'privacy_redact'"
    )
    assert (status, code) == ("dead", "shopify.unreadable_privacy_request")
    assert "orders_to_redact is" in error and "a list of order ids" in error


def test_a_mail_to_the_customer_that_still_waits_is_not_sent(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(shop) as tx:
        new_work = record_mails(tx, [mail(1, "john@example.com", "Your bike is ready")], NOW)
        record_work(tx, new_work, utc_now())

    request_privacy(shop, "customers/redact", 200)

    with Scripted().serving() as server, mail_settings(monkeypatch, SMTP_URL=server.url):
        report = run(shop)
    assert server.mails == []
    assert report.done == 1
    assert rows(shop, "select status, result from work_queue where topic = 'mail_send'") == [
        ("done", "redacted")
    ]
