"""What was told beside a customer's orders is theirs to see, and knows nobody by name."""

from sqlalchemy import Engine

from services.core.db import transaction
from services.privacy.shopify_data import find_logistics_rows
from services.privacy.subject import Subject
from services.shopify.logistics.fulfillments import ingest_fulfillment_events
from services.shopify.logistics.returns import ingest_returns
from services.shopify.orders.disputes import ingest_shopify_disputes
from services.shopify.orders.notices import ingest_order_notices
from services.shopify.orders.tender_transactions import ingest_tender_transactions
from tests.privacy.people import JOHN, JOHNS_ORDER
from tests.shopify import logistics_payloads as told
from tests.shopify.sample_payloads import ingest

ANOTHER = JOHNS_ORDER + 1


def test_all_of_it_is_handed_out_and_nothing_of_another_order(shop: Engine) -> None:
    for place, number in enumerate((JOHNS_ORDER, ANOTHER)):
        ingest(shop, ingest_fulfillment_events, told.sighting(id=10 + place, order_id=number))
        ingest(shop, ingest_order_notices, told.risk(order_id=number))
        ingest(shop, ingest_shopify_disputes, told.dispute(id=10 + place, order_id=number))
        ingest(shop, ingest_tender_transactions, told.tender(id=10 + place, order_id=number))
        closed = told.order_return(topic="close", id=10 + place, order_id=number, status="closed")
        ingest(shop, ingest_returns, closed)

    with transaction(shop) as tx:
        found = list(find_logistics_rows(tx, Subject(shop_id=1, customer_id=JOHN)))
        other = Subject(shop_id=1, order_gids=frozenset({told.gid("Order", ANOTHER)}))
        named = list(find_logistics_rows(tx, other))

    assert [row["what"] for row in found] == [
        "dispute", "money that changed hands", "notices", "parcel seen", "return",
    ]  # fmt: skip
    assert {row["id"] for row in found} == {told.gid("Order", JOHNS_ORDER)}
    assert {row["id"] for row in named} == {told.gid("Order", ANOTHER)}
    assert "4242" not in str(found)
    assert "Zerlinaville" not in str(found)
