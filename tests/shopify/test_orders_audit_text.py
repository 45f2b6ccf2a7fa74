"""Audit summaries: the changes of each event in connected steps, without customer texts."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from services.audit.append import append_all
from services.core.db import transaction
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    NOW,
    ORDER,
    Ingest,
    add_shop,
    at,
    count_levels,
    ingest,
    item,
    level,
    line,
    order,
    product,
    refund,
    rows,
)
from tests.shopify.test_stock_orders import STORY

NAME = f"order #{ORDER % 1000}"
GID = f"gid://shopify/Order/{ORDER}"
MUGS = f"stock of MUG at location {LOCATION}"


def summaries(effects: HandlerResult) -> list[tuple[str, ...]]:
    """Return the summaries of each entry, in order."""
    return [tuple(m.summary for m in entry.mutations) for entry in effects.audit]


def changes(effects: HandlerResult) -> tuple[Any, Any]:
    """Return before and after of the only mutation."""
    ((mutation,),) = (entry.mutations for entry in effects.audit)
    return mutation.before, mutation.after


@pytest.fixture
def mugs(engine: Engine) -> Engine:
    """A shop with twelve mugs, counted a minute before noon."""
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(12, -1))
    count_levels(engine)
    return engine


def test_new_order_is_described_with_its_total_status_and_lines(engine: Engine) -> None:
    new = order(lines=[line(), line(ORDER + 2, None), line(ORDER + 3, None)], total_price="45.00")

    (entry,) = (effects := ingest(engine, ingest_orders, new)).audit

    assert summaries(effects) == [(f"{NAME} recorded: 45.00 CAD, paid, 3 lines",)]
    assert (entry.action, entry.request_id, entry.work_id) == ("orders/updated", new.request_id, new.id)
    assert (entry.mutations[0].table_name, entry.mutations[0].row_id) == ("orders", GID)
    assert changes(effects) == (
        None,
        {"currency": "CAD", "financial_status": "paid", "line_count": 3, "total_cents": 4500},
    )


def test_changed_order_is_described_by_its_changes_only(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(total_price="45.00"))

    effects = ingest(
        engine, ingest_orders, order(5, total_price="40.00", financial_status="refunded", cancelled_at=at(5))
    )

    assert summaries(effects) == [(f"{NAME}: paid -> refunded, 45.00 -> 40.00 CAD, cancelled",)]
    before, after = changes(effects)
    assert set(before) == set(after) == {"financial_status", "total_cents", "cancelled_at", "updated_at"}
    assert (before["total_cents"], after["total_cents"], before["cancelled_at"]) == (4500, 4000, None)


SUMMARIES = [
    ({"name": "#77"}, "renamed to #77"),
    ({"financial_status": "voided"}, "paid -> voided"),
    ({"total_price": "9.00"}, "12.50 -> 9.00 CAD"),
    ({"currency": "USD", "total_price": "9.00"}, "12.50 CAD -> 9.00 USD"),
    ({"cancelled_at": at(5)}, "cancelled"),
    ({"processed_at": at(-60)}, "time of the sale changed"),
    ({"fulfillment_status": "partial"}, "unfulfilled -> partial"),
    ({"subtotal_price": "12.00"}, "subtotal changed"),
    ({"total_tax": "0.50"}, "tax changed"),
    ({"total_shipping_price_set": {"shop_money": {"amount": "5.00"}}}, "shipping changed"),
    ({"total_discounts": "1.00"}, "discount changed"),
    ({"customer": {"id": 9}}, "customer changed"),
    ({"lines": [line(), line(ORDER + 2), line(ORDER + 3)]}, "2 lines added"),
    ({"lines": []}, "1 line removed"),
    ({"note_attributes": [{"name": "Staff", "value": "Ana"}]}, "received again, details changed"),
    ({}, "received again, only updated_at changed"),
]


@pytest.mark.parametrize(("fields", "text"), SUMMARIES, ids=[text for _, text in SUMMARIES])
def test_summary_of_a_changed_order(engine: Engine, fields: dict[str, Any], text: str) -> None:
    ingest(engine, ingest_orders, order())

    assert summaries(ingest(engine, ingest_orders, order(5, **fields))) == [(f"{NAME}: {text}",)]


def test_summaries_of_a_refund_from_its_first_event_to_its_settlement(engine: Engine) -> None:
    ingest(engine, ingest_orders, order())
    label = f"refund {ORDER + 500} of order {ORDER}"
    pending = [{"id": 7, "kind": "refund", "status": "pending", "amount": "12.50", "currency": "CAD"}]
    done = [pending[0] | {"status": "success"}]
    more = {"subtotal": "2.50", "quantity": 1, "line_item_id": ORDER + 1, "restock_type": "no_restock"}

    assert summaries(ingest(engine, ingest_refunds, refund(transactions=pending))) == [
        (f"{label} recorded: 0.00 CAD, 1 line, pending",)
    ]
    assert summaries(ingest(engine, ingest_refunds, refund(transactions=done)))[0][0] == (
        f"{label}: pending -> success, 0.00 -> 12.50 CAD"
    )
    assert summaries(
        ingest(engine, ingest_refunds, refund(transactions=done, refund_line_items=[more | {"id": 77}]))
    )[0][0].startswith(f"{label}: 1 line added")


def test_order_received_again_changes_only_its_time(engine: Engine) -> None:
    ingest(engine, ingest_orders, order())

    effects = ingest(engine, ingest_orders, order(5))

    assert summaries(effects) == [(f"{NAME}: received again, only updated_at changed",)]
    assert set(changes(effects)[1]) == {"updated_at"}


def test_added_and_changed_lines_are_audited_with_their_figures(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(lines=[line(), line(ORDER + 2, "CUP")]))

    edited = [line(quantity=4), line(ORDER + 2, "CUP"), line(ORDER + 3, "JUG")]
    effects = ingest(engine, ingest_orders, order(5, lines=edited))

    assert summaries(effects) == [(f"{NAME}: 1 line added, 1 line changed",)]
    before, after = changes(effects)
    assert before["lines"] == {
        str(ORDER + 1): {"sku": "MUG", "quantity": 1, "price_cents": 1250},
        str(ORDER + 3): None,
    }
    assert after["lines"][str(ORDER + 1)]["quantity"] == 4
    assert rows(engine, "select quantity from order_lines order by line_id") == [(4,), (1,), (1,)]


def test_stale_copied_refused_and_skipped_events_are_not_audited(engine: Engine) -> None:
    first = order(5)
    effects = ingest(engine, ingest_orders, order(1), first, first)
    assert [entry.work_id for entry in effects.audit] == [first.id]

    follows = item("order_ingest", {"order_edit": {"order_id": ORDER}}, event_topic="orders/edited")
    assert ingest(engine, ingest_orders, first, order(2), order(9, currency=None), follows).audit == []


def test_each_order_of_a_set_has_its_own_step_of_a_level(mugs: Engine) -> None:
    orders = [
        order(number=ORDER + n, name=f"#{n}", lines=[line(ORDER + n + 1, quantity=sold), line(ORDER + n + 2)])
        for n, sold in ((1000, 2), (2000, 1))
    ]

    effects = ingest(mugs, ingest_orders, *orders)

    assert [words[1:] for words in summaries(effects)] == [
        (f"{MUGS} 12 -> 9 by order #1000",),
        (f"{MUGS} 9 -> 7 by order #2000",),
    ]
    steps = [entry.mutations[1] for entry in effects.audit]
    assert {(s.table_name, s.row_id) for s in steps} == {("inventory_levels", f"{ITEM}:{LOCATION}")}
    assert [(s.before, s.after) for s in steps] == [
        ({"available": 12}, {"available": 9}),
        ({"available": 9}, {"available": 7}),
    ]


def test_order_that_took_its_stock_before_has_no_step(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order())

    effects = ingest(
        mugs, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51)], name="#b"), order(5)
    )

    assert [words[1:] for words in summaries(effects)] == [(f"{MUGS} 11 -> 10 by order #b",), ()]


def test_sale_that_the_observation_contains_is_no_step(mugs: Engine) -> None:
    early = order(number=ORDER + 50, lines=[line(ORDER + 51)], created_at=at(-30))

    effects = ingest(mugs, ingest_orders, early, order())

    assert [words[1:] for words in summaries(effects)] == [(), (f"{MUGS} 12 -> 11 by {NAME}",)]


def test_level_recounted_in_a_set_is_one_step_of_its_last_order(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order())

    sold = order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)], name="#b")
    effects = ingest(mugs, ingest_orders, sold, order(5, lines=[line(quantity=4)]))

    assert [words[1:] for words in summaries(effects)] == [(), (f"{MUGS} 11 -> 6 by {NAME}",)]


def test_refund_is_audited_with_its_order_and_its_stock(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order())

    effects = ingest(mugs, ingest_refunds, given := refund())

    number = ORDER + 500
    assert summaries(effects) == [
        (
            f"refund {number} of order {ORDER} recorded: 12.50 CAD, 1 line",
            f"{NAME}: refunded 0.00 -> 12.50 CAD",
            f"{MUGS} 11 -> 12 by refund {number}",
        )
    ]
    assert ingest(mugs, ingest_refunds, given, refund()).audit == []


def test_two_refunds_of_an_order_in_a_set_share_its_sum(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order(lines=[line(quantity=2)], total_price="25.00"))

    effects = ingest(
        mugs, ingest_refunds, refund(amount="5.00"), refund(40, refund_id=ORDER + 600, amount="7.50")
    )

    assert [words[1] for words in summaries(effects)] == [
        f"{NAME}: refunded 0.00 -> 5.00 CAD",
        f"{NAME}: refunded 5.00 -> 12.50 CAD",
    ]


def test_refund_whose_money_moved_later_is_audited_again_and_the_largest_of_a_set_counts(
    mugs: Engine,
) -> None:
    ingest(mugs, ingest_orders, order())
    pending = [{"kind": "refund", "status": "pending", "amount": "12.50", "currency": "CAD"}]
    ingest(mugs, ingest_refunds, refund(transactions=pending))

    effects = ingest(mugs, ingest_refunds, refund(), refund(transactions=pending))

    assert [words[0] for words in summaries(effects)] == [
        f"refund {ORDER + 500} of order {ORDER}: pending -> success, 0.00 -> 12.50 CAD"
    ]
    assert rows(mugs, "select refunded_cents from orders") == [(1250,)]


def test_refund_received_again_with_less_is_not_audited(mugs: Engine) -> None:
    ingest(mugs, ingest_refunds, refund())
    pending = [{"kind": "refund", "status": "pending", "amount": "12.50", "currency": "CAD"}]

    assert ingest(mugs, ingest_refunds, refund(transactions=pending)).audit == []


def test_level_of_no_sku_follows_shopifys_count(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_inventory_levels, level(10, -1))

    assert summaries(ingest(engine, ingest_inventory_levels, level(8, 5))) == [
        (f"stock of item {ITEM} at location {LOCATION}: Shopify counted 8 (was 10), 10 -> 8",)
    ]


def test_order_that_comes_after_its_refund_states_the_refunded_sum(mugs: Engine) -> None:
    ingest(mugs, ingest_refunds, refund())

    assert summaries(ingest(mugs, ingest_orders, order()))[0][0].endswith("paid, 1 line, 12.50 CAD refunded")


def test_count_of_shopifys_is_audited_with_the_count_before(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order(lines=[line(quantity=3)]))

    effects = ingest(mugs, ingest_inventory_levels, level(8, 5))

    assert summaries(effects) == [(f"{MUGS}: Shopify counted 8 (was 12)",)]
    before, after = changes(effects)
    assert {name: (before[name], after[name]) for name in set(before) - {"observed_at"}} == {
        "observed_available": (12, 8),
        "shopify_available": (12, 8),
    }


def test_first_observation_of_a_level_is_recorded_as_it_is(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_orders, order(lines=[line(quantity=3)]))

    assert summaries(ingest(engine, ingest_inventory_levels, level(12, -1))) == [(f"{MUGS} recorded: 12",)]


def test_counted_level_that_a_second_location_of_its_item_changes_is_audited(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order(lines=[line(quantity=3)]))

    effects = ingest(mugs, ingest_inventory_levels, level(5, -1, location=LOCATION - 1))

    assert summaries(effects) == [
        (
            f"stock of MUG at location {LOCATION - 1} recorded: 5",
            f"{MUGS} 9 -> 12 by a recount of its item",
        )
    ]


def test_variant_that_takes_another_sku_is_audited_with_its_level(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order())

    effects = ingest(mugs, ingest_products, product("CUP", 1))

    assert summaries(effects) == [
        (
            "product 4: received again",
            "variant 5: sku MUG -> sku CUP",
            f"stock of item {ITEM} at location {LOCATION}: sku MUG -> CUP, 11 -> 12",
        )
    ]
    assert summaries(ingest(mugs, ingest_products, product("CUP", 2))) == [
        ("product 4: received again", "variant 5: received again, only updated_at changed")
    ]


def test_name_and_address_of_a_customer_are_in_no_entry(mugs: Engine) -> None:
    person = {
        "first_name": "Zerlina",
        "last_name": "Quux",
        "email": "z@quux.example",
        "phone": "+16045550199",
    }
    sold = line(quantity=2) | {"title": "A mug for Zerlina", "properties": [{"value": "For Zerlina Quux"}]}
    private = {
        "email": person["email"],
        "note": "Ring twice, Zerlina Quux",
        "customer": person,
        "shipping_address": person | {"address1": "9 Quux Street"},
        "lines": [sold],
    }
    lines = private.pop("lines")
    money = [
        {"kind": "refund", "status": "success", "amount": "1.00", "currency": "CAD", "message": "to Zerlina"}
    ]
    effects = [
        ingest(mugs, ingest_orders, order(lines=lines, **private)),
        ingest(mugs, ingest_orders, order(5, lines=[sold | {"quantity": 3}], **private)),
        ingest(mugs, ingest_refunds, refund(note="Sorry, Zerlina", transactions=money)),
        ingest(mugs, ingest_products, product("CUP", 9)),
    ]

    entries = [entry for one in effects for entry in one.audit]
    assert len(entries) == 4
    text = orjson.dumps([m._asdict() for e in entries for m in e.mutations], default=str).decode()
    assert not [word for word in ("Zerlina", "Quux", "quux", "+1604", "A mug") if word in text]


KEYS = {
    "orders": "order_gid",
    "order_refunds": "refund_id::text",
    "inventory_levels": "inventory_item_id || ':' || location_id",
    "variants": "inventory_item_id::text",
}


def replay(engine: Engine) -> dict[tuple[str, str], dict[str, Any]]:
    """Rebuild each row from the audit; each step must start where the previous one ended."""
    state: dict[tuple[str, str], dict[str, Any]] = {}
    steps = rows(
        engine,
        "select m.table_name, m.row_id, m.before, m.after from audit_mutations m "
        "join audit_events e on e.id = m.event_id order by e.seq, m.place",
    )
    for table, row_id, before, after in steps:
        row = state.setdefault((table, row_id), {})
        assert (before is None) == (not row), (table, row_id)
        for name, value in (before or {}).items():
            assert name == "lines" or row.get(name, value) == value, (table, row_id, name)
        row.update(after)
    return state


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.permutations(range(len(STORY))), st.lists(st.integers(1, 4), min_size=11, max_size=11))
def test_audit_alone_leads_to_every_row_in_connected_steps(
    engine: Engine, owner_engine: Engine, order_of_events: Sequence[int], sizes: Sequence[int]
) -> None:
    tables = "orders, order_lines, order_refunds, order_refund_lines, inventory_levels, stock_movements"
    with owner_engine.begin() as tx:
        tx.exec_driver_sql(f"truncate {tables}, fulfillment_orders, variants cascade")
        tx.exec_driver_sql("truncate audit_events, work_queue, shops cascade")
    add_shop(engine)
    ingest(engine, ingest_inventory_levels, level(20, -30), level(8, -30, location=LOCATION + 1))
    count_levels(engine)
    for effect, items in in_sets([(STORY[n][0], STORY[n][1]()) for n in order_of_events], sizes):
        with transaction(engine) as tx:
            append_all(tx, effect(tx, items, NOW).audit, NOW)

    state = replay(engine)
    for table, key in KEYS.items():
        stored = rows(engine, f"select {key}, to_jsonb(t) from {table} t")  # noqa: S608 - our own names
        assert {row_id for row_id, _ in stored} == {row_id for name, row_id in state if name == table}
        for row_id, row in stored:
            audited = state[table, row_id]
            for name in set(audited) & set(row) - {"observed_at", "updated_at"}:
                assert audited[name] == row[name], (table, row_id, name)


def in_sets(
    events: Sequence[tuple[Ingest, WorkItem]], sizes: Sequence[int]
) -> list[tuple[Ingest, list[WorkItem]]]:
    """Group consecutive events of one topic, up to the sizes."""
    sets: list[tuple[Ingest, list[WorkItem]]] = []
    for effect, event in events:
        if sets and sets[-1][0] is effect and len(sets[-1][1]) < sizes[len(sets) % len(sizes)]:
            sets[-1][1].append(event)
        else:
            sets.append((effect, [event]))
    return sets
