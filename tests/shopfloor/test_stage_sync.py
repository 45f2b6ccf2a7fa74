"""Orders come to the board by follow-up work; edits and cancellations show there."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.privacy.floor_data import find_floor_orders, redact_floor_orders
from services.privacy.subject import DataSubject
from services.shopfloor.board import count_stages, find_order_gid, list_cancelled, list_open_orders
from services.shopfloor.handler import sync_stages
from services.shopfloor.payload import parse_due, parse_floor_order
from services.shopify.orders.handler import ingest_orders
from tests.shopfloor.floor import GID, make_floor, place_order, read_order, scan, sign_in, sync
from tests.shopify.sample_payloads import ORDER, SHOP, add_shop, at, ingest, item, line, order, rows

LAST_CHANGE = """
select summary from audit_mutations where table_name = 'floor_orders' order by event_id desc limit 1
"""
VANCOUVER = ZoneInfo("America/Vancouver")
CAKE = {"title": "Cake", "id": ORDER + 1, "quantity": 1, "price": "9"}


def attributes(**fields: str) -> list[dict[str, str]]:
    return [{"name": name.replace("_", " "), "value": value} for name, value in fields.items()]


@pytest.fixture
def floor(engine: Engine) -> Engine:
    """A shop with an empty board."""
    make_floor(engine)
    return engine


def test_order_comes_to_the_board_with_due_date_assignee_storage_and_notes(floor: Engine) -> None:
    sign_in(floor, "Ana")
    given = attributes(Due_Date="2026-12-01", storage_location="Fridge 2", Assigned_to="ana@example.com")

    assert place_order(floor, note="no nuts", note_attributes=given, line_items=[CAKE]) == ["done"]

    with transaction(floor) as tx:
        found = list_open_orders(tx, SHOP)[0]
        assert (found.stage, found.storage, found.notes, found.assignee) == (
            "Filling",
            "Fridge 2",
            "no nuts",
            "Ana",
        )
        assert found.due_at == datetime(2026, 12, 1, 17, tzinfo=ZoneInfo("America/Los_Angeles"))
        assert found.lines == [{"title": "Cake", "quantity": 1}]
        assert find_order_gid(tx, SHOP, f"{ORDER}") == find_order_gid(tx, SHOP, f"{ORDER % 1000}") == GID


def test_shop_without_a_floor_gets_no_such_work(engine: Engine) -> None:
    add_shop(engine)

    planned = ingest(engine, ingest_orders, order()).new_work

    assert [work.topic for work in planned if work.topic == "stage_sync"] == []


def test_edited_order_shows_what_changed_and_keeps_its_stage(floor: Engine) -> None:
    ana = sign_in(floor, "Ana")
    place_order(floor, line_items=[CAKE])
    scan(floor, ana)

    place_order(floor, 1, line_items=[CAKE | {"quantity": 3}], note="for Zoe")

    with transaction(floor) as tx:
        found = read_order(tx)
        assert (found.stage, found.changes) == ("Filling", "Cake: 1 -> 3; notes changed")
        assert found.holder_id is not None
    assert rows(floor, LAST_CHANGE) == [(f"order #{ORDER % 1000} of the shop floor: 2 parts changed",)]


def test_cancelled_order_leaves_the_board_and_its_holder_is_named_until_they_stop(floor: Engine) -> None:
    ana, ben = sign_in(floor, "Ana"), sign_in(floor, "Ben")
    place_order(floor)
    scan(floor, ana)

    assert place_order(floor, 1, cancelled_at=at(1)) == ["cancelled"]

    with transaction(floor) as tx:
        assert list_open_orders(tx, SHOP) == []
        assert [(row.name, row.holder) for row in list_cancelled(tx, SHOP)] == [(f"#{ORDER % 1000}", "Ana")]
        assert [one.open for one in count_stages(tx, SHOP, utc_now())] == [0, 0, 0, 0]
    refused = scan(floor, ana, "finish")
    assert (refused.code, refused.answer["allowed"]) == ("ORDER_CANCELLED", ["release"])
    assert scan(floor, ben).code == "STAGE_TAKEN"
    assert scan(floor, ana).code == "OK"
    with transaction(floor) as tx:
        assert list_cancelled(tx, SHOP) == []
    assert "cancelled while Ana works on it" in str(rows(floor, "select summary from audit_mutations"))


def test_deleted_order_leaves_the_board(floor: Engine) -> None:
    place_order(floor)
    gone = item("order_ingest", {"id": ORDER}, event_topic="orders/delete")

    assert sync(floor, ingest(floor, ingest_orders, gone).new_work, {}) == ["cancelled"]

    with transaction(floor) as tx:
        assert list_open_orders(tx, SHOP) == []
        assert read_order(tx).name == f"#{ORDER % 1000}"


def test_work_that_comes_late_changes_nothing(floor: Engine) -> None:
    first = order(note="old")
    ingest(floor, ingest_orders, first)
    late = item("stage_sync", first.body)._replace(key=GID)
    place_order(floor, 1, note="new")

    with transaction(floor) as tx:
        result = sync_stages(tx, [late], utc_now())

    assert [getattr(one, "result", "") for one in result.outcomes] == ["stale"]
    with transaction(floor) as tx:
        assert read_order(tx).notes == "new"


def test_late_orders_are_counted_by_stage(floor: Engine) -> None:
    for number, due in ((ORDER, "2026-01-01"), (ORDER + 1, "2999-01-01"), (ORDER + 2, "")):
        place_order(floor, number=number, lines=[line(number - 10)], note_attributes=attributes(due_date=due))

    with transaction(floor) as tx:
        counted = count_stages(tx, SHOP, utc_now())[0]
        assert (counted.stage, counted.open, counted.late, counted.held) == ("Filling", 3, 1, 0)
        assert [row.name for row in list_open_orders(tx, SHOP, stage="Packing")] == []


def test_customer_is_removed_from_the_board_and_the_stages_stay(floor: Engine) -> None:
    ana = sign_in(floor, "Ana")
    place_order(floor, note="for Zoe Miller, 555-1234")
    scan(floor, ana)
    subject = DataSubject(shop_id=SHOP, order_gids=frozenset({GID}))

    with transaction(floor) as tx:
        assert [row["notes"] for row in find_floor_orders(tx, subject)] == ["for Zoe Miller, 555-1234"]
        assert redact_floor_orders(tx, subject, utc_now()) == {"floor_orders": 1}
        assert redact_floor_orders(tx, DataSubject(shop_id=SHOP, whole_shop=True), utc_now()) == {
            "floor_orders": 0
        }
        assert (read_order(tx).notes, read_order(tx).stage) == ("", "Filling")
    assert rows(floor, "select count(*) from order_stages") == [(1,)]


def test_removed_shop_leaves_nothing_on_the_floor_and_no_other_shop_is_emptied(floor: Engine) -> None:
    scan_token = sign_in(floor, "Ana")
    place_order(floor)
    scan(floor, scan_token)

    with transaction(floor) as tx, pytest.raises(Exception, match="shop 1 is not removed"):
        tx.exec_driver_sql("select floor_forget(1)")
    with transaction(floor) as tx:
        tx.exec_driver_sql('update shop_config set settings = \'{"removed_at": "2026-11-20"}\'')
        assert tx.exec_driver_sql("select floor_forget(1)").rowcount == 3
        assert tx.exec_driver_sql("select floor_forget(1)").rowcount == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-12-01", datetime(2026, 12, 2, 0, tzinfo=UTC)),
        ("2026-12-01T09:30", datetime(2026, 12, 1, 16, 30, tzinfo=UTC)),
        ("2026-12-01 09:30+00:00", datetime(2026, 12, 1, 9, 30, tzinfo=UTC)),
        ("next Friday", None),
        ("", None),
        ("0001-01-01", None),
        ("9999-12-31T23:59:59-12:00", None),
    ],
)
def test_due_day_ends_at_17_h_in_the_shops_zone(text: str, expected: datetime | None) -> None:
    assert parse_due(text, VANCOUVER) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("note", "note_attributes", "line_items", "name", "cancelled_at")


@settings(max_examples=200, deadline=timedelta(seconds=2))
@given(st.fixed_dictionaries(dict.fromkeys(FIELDS, JSON)) | JSON)
def test_odd_fields_of_an_order_are_empty_and_hold_up_nothing(body: Any) -> None:
    try:
        raw = orjson.dumps(body)
    except TypeError:  # an integer beyond 64 bits
        return
    assert parse_floor_order(raw, VANCOUVER).name is not None
