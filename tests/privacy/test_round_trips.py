"""Rows of ``privacy_requests`` are read back by column name."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, text

from services.core.db import transaction
from services.privacy.payload import PrivacyRequest
from services.privacy.store import list_exports, list_requests, record_request, record_request_done
from services.privacy.subject import DataSubject
from tests.shopify.sample_payloads import add_shop, order

RECEIVED = datetime(2026, 11, 1, 8, tzinfo=UTC)
DONE = datetime(2026, 11, 3, 9, tzinfo=UTC)
RESULT = {"key": "privacy/shop-1/request-1.json", "records": 12}


def test_a_privacy_request_is_read_back_by_name(engine: Engine) -> None:
    add_shop(engine)
    item = order()._replace(shop_id=1, event_id=41, received_at=RECEIVED)
    requested = PrivacyRequest("export", 7, "acme.myshopify.com", 191167, *[frozenset[str]()] * 3)
    with transaction(engine) as tx:
        first = record_request(tx, item, requested, DONE)
        again = record_request(tx, item, requested, DONE)
        record_request_done(tx, first.id, RESULT, DONE)
        (line,) = list_requests(tx, 1, 10)
        exports = list_exports(tx, DataSubject(shop_id=1, customer_id=191167))
        stored = tx.execute(text("select * from privacy_requests")).one()

    assert first == again
    assert (first.status, first.received_at, first.due_at) == (
        "open",
        RECEIVED,
        RECEIVED + timedelta(days=30),
    )
    assert line._asdict() == {
        "id": first.id, "shop_id": 1, "kind": "export", "customer_id": 191167, "event_id": 41,
        "status": "done", "received_at": RECEIVED, "due_at": first.due_at, "done_at": DONE,
        "result": RESULT, "work_status": "", "work_id": None,
    }  # fmt: skip
    for name in ("id", "shop_id", "kind", "customer_id", "event_id", "status", "due_at", "done_at", "result"):
        assert stored._mapping[name] == getattr(line, name), name
    assert exports == [f"privacy/shop-1/request-{first.id}.json"]
