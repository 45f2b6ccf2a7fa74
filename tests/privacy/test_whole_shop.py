"""Erasure of a whole shop: customers, bodies and secrets are removed, figures stay."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Row, Table, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.filters import EventFilter
from services.ledger.replay import replay_events
from services.privacy import text_data
from services.providers.object_store import FolderStore
from services.shops.secrets import get_secret, record_secret
from tests.privacy.customers import JANES, JOHNS, dump_rows, find_words, request_privacy, work
from tests.privacy.test_customer_redaction import figures
from tests.shopify.sample_payloads import rows


def test_all_customers_of_the_shop_are_redacted_and_figures_stay(shop: Engine, archive: FolderStore) -> None:
    request_privacy(shop, "customers/data_request", 100)
    before = figures(shop)

    report = request_privacy(shop, "shop/redact", 200)

    assert report.done == 1
    assert find_words(dump_rows(shop), JOHNS + JANES) == set()
    assert archive.find_keys("privacy/") == []
    assert figures(shop) == before
    assert rows(shop, "select kind, status from privacy_requests order by id") == [
        ("export", "done"), ("shop_redact", "done"),
    ]  # fmt: skip


def test_erasure_is_done_in_parts_and_a_retry_after_a_crash_does_the_rest(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_data, "PIECE", 5)
    pieces: list[int] = []
    real = text_data.update_rows

    def fail_at_the_third(
        tx: Connection, table: Table, rows: Iterator[Row[Any]], redact: Callable[[Row[Any]], Any]
    ) -> int:
        chosen = list(rows)
        if table.name == "inbound_events" and chosen:
            pieces.append(len(chosen))
            if len(pieces) == 3:
                raise RuntimeError("the power went")
        return real(tx, table, iter(chosen), redact)

    monkeypatch.setattr(text_data, "update_rows", fail_at_the_third)
    assert len(request_privacy(shop, "shop/redact", 200).retried) == 1
    with transaction(shop) as tx:
        tx.execute(
            text("update work_queue set next_retry_at = now() - interval '1 s' where status = 'error'")
        )

    assert work(shop).done == 1

    # Fourteen events: two parts before the crash, and the rest of the third after it.
    assert pieces == [5, 5, 4, 4]
    assert find_words(dump_rows(shop), JOHNS + JANES) == set()


def test_another_shop_keeps_everything(shop: Engine) -> None:
    from tests.shopify.sample_payloads import add_shop

    other = add_shop(shop, "pier", "pier.myshopify.com")
    with transaction(shop) as tx:
        record_secret(tx, other, "stripe-key", "rk_test_" + "b" * 24, utc_now())
    request_privacy(shop, "shop/redact", 200)

    with transaction(shop) as tx:
        assert get_secret(tx, other, "stripe-key")


def test_secrets_are_deleted_and_a_replay_of_the_request_deletes_no_new_ones(shop: Engine) -> None:
    key = "rk_test_" + "a" * 24
    with transaction(shop) as tx:
        record_secret(tx, 1, "stripe-key", key, utc_now())
    request_privacy(shop, "shop/redact", 200)
    with transaction(shop) as tx:
        assert get_secret(tx, 1, "stripe-key") is None
        record_secret(tx, 1, "stripe-key", key, utc_now())
        wanted = EventFilter(topic="shop/redact", since=utc_now() - timedelta(days=9999))
        replay_events(tx, wanted, now=utc_now(), by="ada")

    assert work(shop).done == 1

    with transaction(shop) as tx:
        assert get_secret(tx, 1, "stripe-key") == key
    assert rows(shop, "select result from work_queue where topic = 'privacy_redact' order by id") == [
        ("redacted",), ("duplicate",),
    ]  # fmt: skip
