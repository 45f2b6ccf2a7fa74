"""A genuine signed body that is posted under a destructive topic is answered 200 and destroys nothing."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.journeys.journey_fleet import JourneyFleet, wait_for

pytestmark = pytest.mark.xdist_group("journeys")

DESTRUCTIVE = (
    "shop/redact",
    "customers/redact",
    "orders/delete",
    "products/delete",
    "customers/delete",
    "locations/delete",
    "inventory_items/delete",
    "inventory_levels/disconnect",
)
WORK = """
select e.topic, w.status, w.error_code from work_queue w join inbound_events e on e.id = w.event_id
 where e.delivery_key like 'forged-topic-%' order by w.id
"""
RECORDED = """
select (select count(*) from shop_secrets where name not like 'retired:%'),
       (select count(*) from orders where deleted_at is null),
       (select count(*) from customers where deleted_at is null and redacted_at is null),
       (select count(*) from inventory_levels where disconnected_at is null),
       (select count(*) from products where deleted_at is null)
"""


def test_body_of_an_order_under_a_destructive_topic_is_dead_and_an_incident(fleet: JourneyFleet) -> None:
    shop = fleet.shops[2]
    place = fleet.reserve_item(shop)
    delivery, order = fleet.make_order(shop, place)
    fleet.sender.send(delivery)
    wait_for(lambda: fleet.count_orders([order]) == 1)
    wait_for(lambda: not fleet.count_open_work())
    before = fleet.select(RECORDED)

    for number, topic in enumerate(DESTRUCTIVE):
        fleet.sender.send(replace(delivery, topic=topic, webhook_id=f"forged-topic-{number}"))

    wait_for(lambda: [row[1] for row in fleet.select(WORK)] == ["dead"] * len(DESTRUCTIVE))
    assert {code for _, _, code in fleet.select(WORK)} == {"shopify.wrong_body"}
    assert fleet.select(RECORDED) == before
    wait_for(lambda: _incidents(fleet) >= {"work_dead:privacy_redact", "work_dead:order_ingest"})


def test_forged_uninstall_is_dead_while_shopify_takes_the_token(fleet: JourneyFleet) -> None:
    shop = fleet.shops[2]
    delivery, _ = fleet.make_order(shop, 0)
    body = orjson.dumps(
        {"id": 1, "iana_timezone": str(shop.zone), "currency": shop.currency, "plan_name": "basic"}
    )
    before = fleet.select(RECORDED)

    forged = replace(delivery, topic="app/uninstalled", webhook_id="forged-uninstall", body=body)
    fleet.sender.send(forged)

    uninstall_work = WORK.replace("forged-topic-%", "forged-uninstall")
    wait_for(lambda: [row[1] for row in fleet.select(uninstall_work)] == ["dead"])
    assert fleet.select(uninstall_work) == [("app/uninstalled", "dead", "shopify.still_installed")]
    assert fleet.select(RECORDED) == before
    assert "shopify_uninstall_not_confirmed" in _incidents(fleet)


def _incidents(fleet: JourneyFleet) -> set[Any]:
    return {row[0] for row in fleet.select("select rule from incidents where status = 'open'")}
