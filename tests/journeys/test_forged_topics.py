"""A genuine signed body that is posted under a destructive topic is answered 200 and destroys nothing."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.journeys.running_fleet import House, wait_for

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


def test_body_of_an_order_under_a_destructive_topic_is_dead_and_an_incident(house: House) -> None:
    shop = house.shops[2]
    place = house.take_item(shop)
    delivery, order = house.make_order(shop, place)
    house.sender.send(delivery)
    wait_for(lambda: house.count_orders([order]) == 1)
    wait_for(lambda: not house.count_waiting())
    before = house.ask(RECORDED)

    for number, topic in enumerate(DESTRUCTIVE):
        house.sender.send(replace(delivery, topic=topic, webhook_id=f"forged-topic-{number}"))

    wait_for(lambda: [row[1] for row in house.ask(WORK)] == ["dead"] * len(DESTRUCTIVE))
    assert {code for _, _, code in house.ask(WORK)} == {"shopify.wrong_body"}
    assert house.ask(RECORDED) == before
    wait_for(lambda: _incidents(house) >= {"work_dead:privacy_redact", "work_dead:order_ingest"})


def test_forged_uninstall_is_dead_while_shopify_takes_the_token(house: House) -> None:
    shop = house.shops[2]
    delivery, _ = house.make_order(shop, 0)
    body = orjson.dumps(
        {"id": 1, "iana_timezone": str(shop.zone), "currency": shop.currency, "plan_name": "basic"}
    )
    before = house.ask(RECORDED)

    forged = replace(delivery, topic="app/uninstalled", webhook_id="forged-uninstall", body=body)
    house.sender.send(forged)

    mine = WORK.replace("forged-topic-%", "forged-uninstall")
    wait_for(lambda: [row[1] for row in house.ask(mine)] == ["dead"])
    assert house.ask(mine) == [("app/uninstalled", "dead", "shopify.still_installed")]
    assert house.ask(RECORDED) == before
    assert "shopify_uninstall_not_confirmed" in _incidents(house)


def _incidents(house: House) -> set[Any]:
    return {row[0] for row in house.ask("select rule from incidents where status = 'open'")}
