"""One shop's flood is not another shop's wait."""

from datetime import UTC, datetime

import pytest

from services.ledger.accept import NewEvent, record_events
from tests.journeys.running_fleet import House, wait_for

pytestmark = pytest.mark.xdist_group("journeys")

FLOOD = 1000


def test_single_webhook_overtakes_another_shops_flood(house: House) -> None:
    flooding, quiet = house.shops[0], house.shops[1]
    place, other = house.take_item(flooding), house.take_item(quiet)
    house.supervisor.hold("worker-webhooks")
    try:
        made = [house.make_order(flooding, place)[0] for _ in range(FLOOD)]
        now = datetime.now(UTC)
        with house.engine.begin() as tx:
            record_events(
                tx,
                [
                    NewEvent(
                        shop_id=house.shop_ids[flooding.slug],
                        provider="shopify",
                        topic="orders/create",
                        delivery_key=delivery.webhook_id,
                        body=delivery.body,
                        received_at=now,
                        key="",
                    )
                    for delivery in made
                ],
            )
        order = house.sell(quiet, other)
    finally:
        house.supervisor.release("worker-webhooks")

    wait_for(lambda: house.count_orders([order]) == 1)
    wait_for(lambda: not house.count_waiting(), seconds=60)
    ((overtaken,),) = house.ask(
        "select count(*) from work_queue f join work_queue q on q.event_id ="
        " (select event_id from orders where order_gid = :gid) and q.topic = 'order_ingest'"
        " where f.shop_id = :flooding and f.topic = 'order_ingest' and f.finished_at > q.finished_at",
        gid=order["admin_graphql_api_id"],
        flooding=house.shop_ids[flooding.slug],
    )
    assert overtaken > FLOOD / 3
