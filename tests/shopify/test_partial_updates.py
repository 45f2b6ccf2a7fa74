"""Fulfillment orders, their events, transfers and shipments: partial, late, under many names."""

from collections.abc import Callable
from datetime import timedelta
from itertools import permutations

import pytest
from sqlalchemy import Engine

from services.ledger.work import WorkItem
from services.shopify.logistics.fulfillment_orders import ingest_fulfillment_orders
from services.shopify.logistics.fulfillments import ingest_fulfillment_events
from services.shopify.logistics.partial_entities import (
    ingest_inventory_shipments,
    ingest_inventory_transfers,
)
from tests.shopify import logistics_payloads as body
from tests.shopify.logistics_payloads import BIG, delivery, gid
from tests.shopify.sample_payloads import LOCATION, NOON, ORDER, at, ingest, outcome_codes, rows

HELD = "select status, is_on_hold, hold_reason from fulfillment_orders"
ORDER_GID = f"gid://shopify/Order/{ORDER}"


def test_event_changes_only_the_fields_that_it_contains(engine: Engine) -> None:
    routed = body.fulfillment_order(
        0, "fulfillment_request_accepted", status="in_progress", request_status="accepted"
    )
    closed = body.fulfillment_order(9, "cancellation_request_accepted", status="closed")
    late = body.fulfillment_order(5, "rescheduled", status="scheduled", fulfill_at=at(500))

    effects = [ingest(engine, ingest_fulfillment_orders, one) for one in (routed, closed, late)]

    assert [outcome_codes(one) for one in effects] == [["done"]] * 3
    assert rows(engine, "select status, request_status, fulfill_at from fulfillment_orders") == [
        ("closed", "accepted", NOON + timedelta(minutes=500))
    ]
    summaries = [mutation.summary for one in effects for entry in one.audit for mutation in entry.mutations]
    assert summaries[1] == f"fulfillment order {BIG}: status in_progress -> closed"


def test_of_two_values_of_one_time_the_higher_rank_wins(engine: Engine) -> None:
    statuses = ("open", "in_progress", "closed")
    for order in permutations(statuses):
        with engine.begin() as tx:
            tx.exec_driver_sql("delete from fulfillment_orders")
        for status in order:
            ingest(engine, ingest_fulfillment_orders, body.fulfillment_order(0, "split", status=status))
        assert rows(engine, "select status from fulfillment_orders") == [("closed",)]


def test_event_without_a_current_field_is_stale(engine: Engine) -> None:
    ingest(engine, ingest_fulfillment_orders, body.fulfillment_order(9, "cancelled", status="cancelled"))

    late = ingest(engine, ingest_fulfillment_orders, body.fulfillment_order(5, "split", status="open"))

    assert outcome_codes(late) == ["stale"]
    assert late.audit == []
    assert rows(engine, "select status from fulfillment_orders") == [("cancelled",)]


HOLDS: dict[str, tuple[list[Callable[[], WorkItem]], tuple[str, bool, str]]] = {
    "put on hold": ([body.fulfillment_order], ("on_hold", True, "other")),
    "released as a whole": (
        [body.fulfillment_order, lambda: body.fulfillment_order(4, "hold_released", status="open")],
        ("open", False, ""),
    ),
    "held again after that": (
        [lambda: body.fulfillment_order(4, "hold_released", status="open"),
         lambda: body.fulfillment_order(6)],
        ("on_hold", True, "other"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLDS)
def test_hold_and_its_reason(engine: Engine, name: str) -> None:
    events, expected = HOLDS[name]
    for order in permutations(events):
        with engine.begin() as tx:
            tx.exec_driver_sql("delete from fulfillment_orders")
        for make in order:
            ingest(engine, ingest_fulfillment_orders, make())
        assert rows(engine, HELD) == [expected]


def test_all_fulfillment_orders_in_a_payload_are_recorded(engine: Engine) -> None:
    moved = {
        "original_fulfillment_order": {"id": gid("FulfillmentOrder", 1), "status": "closed"},
        "moved_fulfillment_order": {
            "id": gid("FulfillmentOrder", 2), "status": "open",
            "assigned_location_id": gid("Location", LOCATION),
        },
    }  # fmt: skip
    one = {"fulfillment_order": {"id": gid("FulfillmentOrder", 3), "status": "open"}}

    ingest(
        engine,
        ingest_fulfillment_orders,
        delivery("fulfillment_orders/moved", moved),
        delivery("fulfillment_orders/merged", {"merge_intents": [], "fulfillment_order_merges": [one]}),
    )

    query = "select fulfillment_order_id, status, location_id from fulfillment_orders order by 1"
    assert rows(engine, query) == [
        (1, "closed", None), (2, "open", LOCATION), (3, "open", None),
    ]  # fmt: skip


def test_goods_ready_for_pickup_have_the_time(engine: Engine) -> None:
    ingest(engine, ingest_fulfillment_orders,
           body.fulfillment_order(7, "line_items_prepared_for_pickup", status="open",
                                  delivery_method={"method_type": "pickup"}))  # fmt: skip

    assert rows(engine, "select prepared_at from fulfillment_orders") == [(NOON + timedelta(minutes=7),)]


def test_scan_of_a_parcel_is_recorded_without_its_place(engine: Engine) -> None:
    ingest(engine, ingest_fulfillment_events, body.scan())
    assert outcome_codes(ingest(engine, ingest_fulfillment_events, body.scan(9, "delete"))) == ["ignored"]

    ((found,),) = rows(engine, "select to_jsonb(t) from fulfillment_events t")
    assert (found["fulfillment_id"], found["status"], found["order_gid"]) == (
        BIG + 1,
        "in_transit",
        ORDER_GID,
    )
    assert found["deleted_at"] is None
    assert "Zerlinaville" not in str(found)


def test_lines_of_a_transfer_have_their_last_quantities(engine: Engine) -> None:
    changed = {"line_item_id": gid("Line", 1), "old_quantity": 10, "new_quantity": 4}
    events = [
        body.transfer(),
        body.transfer(2, "add_items", items_added=[{"line_item_id": gid("Line", 3), "quantity": 5}]),
        body.transfer(3, "update_item_quantities", status="IN_PROGRESS", items_updated=[changed]),
        body.transfer(4, "remove_items", items_removed=[{"line_item_id": gid("Line", 2)}]),
        body.transfer(5, "updated", note=""),
    ]  # fmt: skip
    for one in reversed(events):
        ingest(engine, ingest_inventory_transfers, one)

    query = "select status, origin_id, destination_id, quantity, updated_at from inventory_transfers"
    assert rows(engine, query) == [("in_progress", LOCATION, LOCATION + 1, 9, NOON + timedelta(minutes=5))]


def test_shipment_has_accepted_and_rejected_quantities(engine: Engine) -> None:
    received = [{"id": gid("Line", 1), "old_accepted_quantity": 0, "new_accepted_quantity": 6,
                 "old_rejected_quantity": 0, "new_rejected_quantity": 1}]  # fmt: skip
    tracked = {
        "shipment_id": gid("InventoryShipment"),
        "id": None,
        "updated_tracking": {"arrives_at": at(120)},
    }
    for event in (
        body.shipment(5, "receive_items", status="PARTIALLY_RECEIVED", items_received=received),
        body.shipment(),
        body.shipment(3, "update_tracking", **tracked),
        body.shipment(2, "mark_in_transit", status="IN_TRANSIT"),
    ):
        ingest(engine, ingest_inventory_shipments, event)

    query = (
        "select status, quantity, accepted_quantity, rejected_quantity, arrives_at from inventory_shipments"
    )
    assert rows(engine, query) == [("partially_received", 18, 6, 1, NOON + timedelta(minutes=120))]


def test_deleted_shipment_stays_deleted_after_late_events(engine: Engine) -> None:
    deletion = delivery(
        "inventory_shipments/delete", {"id": gid("InventoryShipment"), "happened_at": at(4)}, 4
    )
    assert outcome_codes(ingest(engine, ingest_inventory_shipments, deletion)) == ["unknown_id"]
    ingest(engine, ingest_inventory_shipments, body.shipment(1))

    assert outcome_codes(ingest(engine, ingest_inventory_shipments, deletion)) == ["done"]
    assert outcome_codes(ingest(engine, ingest_inventory_shipments, body.shipment(9))) == ["done"]

    assert rows(engine, "select status, deleted_at from inventory_shipments") == [
        ("draft", NOON + timedelta(minutes=4))
    ]
