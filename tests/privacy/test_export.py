"""A data request exports all data of the customer and mails it to the shop's owner in time."""

from datetime import timedelta
from random import Random
from zoneinfo import ZoneInfo

import orjson
import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.mail.outbox import find_parts
from services.privacy import export as privacy_export
from services.privacy.export import PrivacyExportHandler
from services.providers.object_store import FolderStore
from tests.ledger_rows import NOW, accept, new_event
from tests.privacy.customers import JANES, JOHN, JOHNS, JOHNS_ORDER, OWNER, find_words, request_privacy, work
from tests.shopify.sample_payloads import rows

REQUESTS = "select kind, customer_id, status, due_at, result from privacy_requests order by id"


def exported(archive: FolderStore) -> str:
    (key,) = archive.find_keys("privacy/")
    return archive.get(key).decode()


def test_the_file_has_all_that_is_kept_of_the_customer_and_nothing_of_others(
    shop: Engine, archive: FolderStore
) -> None:
    report = request_privacy(shop, "customers/data_request", 100)

    assert report.done == 1
    assert find_words(exported(archive), JOHNS) == set(JOHNS)
    assert find_words(exported(archive), JANES) == set()


def test_file_names_sources_in_words_and_times_with_the_shops_offset(
    shop: Engine, archive: FolderStore
) -> None:
    request_privacy(shop, "customers/data_request", 100)

    document = orjson.loads(exported(archive))
    kept = {place["where"]: place for place in document["kept"]}
    assert document["what"] == f"what is kept of customer {JOHN} for Harbour"
    assert document["asked_at"] == NOW.astimezone(ZoneInfo("America/Los_Angeles")).isoformat()
    assert kept["calls and messages"]["rows"][0]["text"] == "John here, the gate code is 7"
    (order,) = kept["orders"]["rows"]
    assert (order["id"], order["total_cents"]) == (f"gid://shopify/Order/{JOHNS_ORDER}", 1250)
    assert (len(order["refunds"]), len(order["payments"]), len(order["shipments"])) == (1, 1, 1)
    assert order["placed_at"].endswith("-08:00")
    assert kept["the shop's customer list"]["rows"][0]["name"] == "John Smith"
    assert kept["mails that were written"]["rows"] == []
    received = kept["events from Shopify, Stripe and Quo"]["rows"]
    assert {row["from"] for row in received} == {"shopify", "stripe", "openphone"}


def test_owner_gets_the_export_by_mail_with_its_due_date(shop: Engine, archive: FolderStore) -> None:
    request_privacy(shop, "customers/data_request", 100)

    ((mail_id, kind, recipient, subject, received),) = rows(
        shop, "select id, kind, recipient, subject, text from mail_outbox"
    )
    assert (kind, recipient) == ("privacy_export", OWNER)
    assert subject == f"Harbour: hand customer {JOHN} their data by Sun 20 Dec 2026, 04:00 -08:00"
    assert "john@example.com" in received
    with transaction(shop) as tx:
        (file,), _ = find_parts(tx, mail_id)
    assert (file.name, file.content.decode()) == (f"customer-{JOHN}.json", exported(archive))
    assert rows(shop, "select topic, key from work_queue where topic = 'mail_send'") == [
        ("mail_send", str(mail_id))
    ]


def test_a_file_too_large_for_a_mail_is_named_in_it(
    shop: Engine, archive: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy_export, "LARGEST_ATTACHED", 100)

    request_privacy(shop, "customers/data_request", 100)

    ((received, has_parts),) = rows(shop, "select text, has_parts from mail_outbox")
    assert archive.find_keys("privacy/")[0] in received
    assert not has_parts


def test_without_an_owners_address_an_incident_says_what_to_do(shop: Engine, archive: FolderStore) -> None:
    with transaction(shop) as tx:
        tx.execute(text("update shop_config set owner_email = ''"))

    request_privacy(shop, "customers/data_request", 100)

    ((severity, summary),) = rows(shop, "select severity, summary from incidents")
    assert severity == "P2"
    assert archive.find_keys("privacy/")[0] in summary
    assert "hand it over by 2026-12-20" in summary
    assert "fleet shops set harbour --owner-email" in summary
    assert rows(shop, "select count(*) from mail_outbox") == [(0,)]


def test_the_request_is_done_and_audited_by_number(shop: Engine, archive: FolderStore) -> None:
    request_privacy(shop, "customers/data_request", 100)

    ((kind, customer_id, status, due_at, result),) = rows(shop, REQUESTS)
    assert (kind, customer_id, status, due_at) == ("export", JOHN, "done", NOW + timedelta(days=30))
    assert result["key"] == "privacy/shop-1/request-1.json"
    assert result["bytes"] == len(exported(archive).encode())
    ((who, action, audited),) = rows(
        shop,
        "select e.staff_label, e.action, m.summary from audit_events e"
        " join audit_mutations m on m.event_id = e.id where e.action like 'privacy%'",
    )
    assert (who, action) == ("shopify webhook", "privacy.export")
    assert audited == f"customer {JOHN} exported: {result['records']} records, {result['bytes']:,} bytes"


def test_retry_after_a_crash_sends_the_stored_file(
    shop: Engine, archive: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the power went")

    with monkeypatch.context() as broken:
        broken.setattr(privacy_export, "compose_mail", fail)
        assert len(request_privacy(shop, "customers/data_request", 100).retried) == 1
    first = exported(archive)
    assert rows(shop, REQUESTS)[0][2] == "open"
    with transaction(shop) as tx:
        tx.execute(
            text("update work_queue set next_retry_at = now() - interval '1 s' where status = 'error'")
        )

    work(shop)

    assert exported(archive) == first
    assert [row[2] for row in rows(shop, REQUESTS)] == ["done"]
    assert rows(shop, "select count(*) from mail_outbox") == [(1,)]


def test_unreachable_store_is_retried(
    shop: Engine, archive: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVE_URL", "file:///proc/nowhere")
    get_settings.cache_clear()

    report = request_privacy(shop, "customers/data_request", 100)

    assert report.done == 0
    ((status, code),) = rows(shop, "select status, error_code from work_queue where topic = 'privacy_export'")
    assert (status, code) == ("error", "archive.unavailable")


def test_two_workers_with_one_request_send_one_mail(shop: Engine, archive: FolderStore) -> None:
    body = {
        "customer": {"id": JOHN, "email": "john@example.com"}, "orders_requested": [JOHNS_ORDER],
        "shop_id": 954889, "shop_domain": "harbour.myshopify.com", "data_request": {"id": 9999},
    }  # fmt: skip
    events = [
        new_event(n, topic="customers/data_request", body=orjson.dumps(body), key="", delivery_key="same")
        for n in (1, 2)
    ]
    accept(shop, *events)
    for name in ("one", "two"):
        ExternalRunner(shop, name, Random(1)).run_batch(TOPICS["privacy_export"], PrivacyExportHandler())

    assert rows(shop, "select count(*) from mail_outbox") == [(1,)]
    assert rows(shop, "select count(*) from privacy_requests") == [(1,)]
