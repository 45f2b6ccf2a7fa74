"""A customer's export has the logistics, notices and disputes of their orders, without names."""

from sqlalchemy import Engine

from services.core.db import transaction
from services.privacy.data_sources import LOGISTICS
from services.privacy.subject import DataSubject
from services.shopify.logistics.fulfillments import ingest_fulfillment_events
from services.shopify.logistics.partial_entities import ingest_returns
from services.shopify.orders.notices import ingest_order_notices
from services.shopify.orders.transactions import ingest_shopify_disputes, ingest_tender_transactions
from tests.privacy.customers import JOHN, JOHNS_ORDER
from tests.shopify import logistics_payloads as events
from tests.shopify.sample_payloads import ingest

ANOTHER = JOHNS_ORDER + 1


def test_export_has_all_rows_of_the_orders_and_none_of_another(shop: Engine) -> None:
    for place, number in enumerate((JOHNS_ORDER, ANOTHER)):
        ingest(shop, ingest_fulfillment_events, events.scan(id=10 + place, order_id=number))
        ingest(shop, ingest_order_notices, events.risk(order_id=number))
        ingest(shop, ingest_shopify_disputes, events.dispute(id=10 + place, order_id=number))
        ingest(shop, ingest_tender_transactions, events.tender(id=10 + place, order_id=number))
        closed = events.order_return(topic="close", id=10 + place, order_id=number, status="closed")
        ingest(shop, ingest_returns, closed)

    with transaction(shop) as tx:
        found = list(LOGISTICS.find(tx, DataSubject(shop_id=1, customer_id=JOHN)))
        other = DataSubject(shop_id=1, order_gids=frozenset({events.gid("Order", ANOTHER)}))
        named = list(LOGISTICS.find(tx, other))

    assert [row["what"] for row in found] == [
        "dispute", "money paid or returned", "notices", "parcel seen", "return",
    ]  # fmt: skip
    assert {row["id"] for row in found} == {events.gid("Order", JOHNS_ORDER)}
    assert {row["id"] for row in named} == {events.gid("Order", ANOTHER)}
    assert "4242" not in str(found)
    assert "Zerlinaville" not in str(found)
