"""For every history, net sales are the amount finally paid for goods and shipping."""

from collections import Counter
from random import Random

import pytest
from sqlalchemy import Engine

from services.closing.profit_and_loss import net_sales
from services.closing.sale_items import make_month_period
from services.closing.tax_profile import TaxProfile
from services.closing.totals import get_figures, stream_taxed
from services.core.db import transaction
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from tests.closing.months import ZONE
from tests.closing.order_histories import draw_history
from tests.shopify.sample_payloads import Ingest, add_shop, ingest, item, whole

EFFECTS: dict[str, Ingest] = {
    "orders/create": ingest_orders,
    "orders/updated": ingest_orders,
    "refunds/create": ingest_refunds,
}
HERE = TaxProfile(province="CA-BC")


@pytest.mark.parametrize("seed", range(10))
def test_net_sales_are_what_was_finally_paid_for_goods_and_shipping(engine: Engine, seed: int) -> None:
    rng = Random(seed)
    add_shop(engine)
    histories = [draw_history(rng, number) for number in range(1, 41)]
    events = [event for history in histories for event in history.events]
    rng.shuffle(events)  # a refund may come before its order
    for event in events:
        source = item("shuffled", whole(event["topic"], event["body"]), event_topic=event["topic"])
        ingest(engine, EFFECTS[event["topic"]], source)

    with transaction(engine) as tx:
        month = make_month_period(1, "2026-10", ZONE, HERE)
        by_order: Counter[str] = Counter()
        for taxed in stream_taxed(tx, month):
            by_order[taxed.item.order_name] += 0 if taxed.item.is_gift_card else taxed.net
        accounts = get_figures(tx, month).accounts["CAD"]

    right = {f"#{history.number}": history.goods_and_shipping for history in histories}
    assert {name: by_order[name] for name in right} == right
    assert net_sales(accounts) == sum(right.values())
