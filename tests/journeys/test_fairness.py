"""The backlog of one shop does not delay another shop."""

from datetime import UTC, datetime

import pytest

from services.ledger.accept import NewEvent, record_events
from tests.journeys.journey_fleet import JourneyFleet, wait_for

pytestmark = pytest.mark.xdist_group("journeys")

FLOOD = 1000


def test_single_webhook_is_done_before_the_backlog_of_another_shop(fleet: JourneyFleet) -> None:
    flooding, quiet = fleet.shops[0], fleet.shops[1]
    place, other = fleet.reserve_item(flooding), fleet.reserve_item(quiet)
    fleet.supervisor.hold("worker-webhooks")
    try:
        made = [fleet.make_order(flooding, place)[0] for _ in range(FLOOD)]
        now = datetime.now(UTC)
        with fleet.engine.begin() as tx:
            record_events(
                tx,
                [
                    NewEvent(
                        shop_id=fleet.shop_ids[flooding.slug],
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
        order = fleet.sell(quiet, other)
    finally:
        fleet.supervisor.release("worker-webhooks")

    wait_for(lambda: fleet.count_orders([order]) == 1)
    wait_for(lambda: not fleet.count_open_work(), seconds=60)
    ((overtaken,),) = fleet.select(
        "select count(*) from work_queue f join work_queue q on q.event_id ="
        " (select event_id from orders where order_gid = :gid) and q.topic = 'order_ingest'"
        " where f.shop_id = :flooding and f.topic = 'order_ingest' and f.finished_at > q.finished_at",
        gid=order["admin_graphql_api_id"],
        flooding=fleet.shop_ids[flooding.slug],
    )
    assert overtaken > FLOOD / 3
