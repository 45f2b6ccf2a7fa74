"""Each column of the reconciliation tables is written and read back by its name."""

from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, Engine

from services.core.db import transaction
from services.payments.breaks import (
    PaymentBreak,
    count_day_breaks,
    list_day_breaks,
    record_breaks,
)
from services.payments.match_rules import stage_unreadable
from services.payments.stripe_lists import UnreadableObject
from tests.payments.day_rows import BEGINS, DAY, NOON, NOW, add_recorded, match_rows, row
from tests.shopify.sample_payloads import add_shop

FIRST = DAY._replace(token="run-1")

STAGED = {
    "shop_id": 1,
    "day": DAY.day,
    "token": "run-1",
    "kind": "amount",
    "provider_id": "ch_1",
    "subject": "refund",
    "ours": {"amount_cents": 11, "currency": "CAD", "status": "paid"},
    "theirs": {"amount_cents": 12, "currency": "USD", "status": "failed"},
    "evidence": {"why": "evidence"},
    "cause": "lost_webhook",
    "cause_event_id": "evt_1",
    "found_at": NOW - timedelta(minutes=1),
}


def stage(tx: Connection, **changes: Any) -> dict[str, Any]:
    staged = STAGED | changes
    stored = {name: orjson.dumps(v).decode() if isinstance(v, dict) else v for name, v in staged.items()}
    names = ", ".join(stored)
    marks = ", ".join(f"%({name})s" for name in stored)
    tx.exec_driver_sql(f"insert into reconciliation_staging ({names}) values ({marks})", stored)  # noqa: S608
    return staged


def select(tx: Connection, table: str) -> list[dict[str, Any]]:
    return [dict(found) for found in tx.exec_driver_sql(f"select * from {table}").mappings()]  # noqa: S608


def close_month(tx: Connection) -> None:
    tx.exec_driver_sql(
        "insert into closed_periods (shop_id, period, begins_on, ends_before, closed_at, figures, files, "
        "manifest_key, manifest_sha256) values (1, '2026-11', '2026-11-01', '2026-12-01', now(), '{}', '[]', "
        "'', '')"
    )


@pytest.fixture
def shop(engine: Engine) -> Engine:
    add_shop(engine)
    return engine


def test_staged_break_becomes_a_row_and_comes_back_by_its_finders(shop: Engine) -> None:
    with transaction(shop) as tx:
        staged = stage(tx)
        record_breaks(tx, FIRST)
        (kept,) = select(tx, "reconciliation_breaks")
        (found,) = list_day_breaks(tx, 1, DAY.day)
        counts = count_day_breaks(tx, 1, DAY.day)

    columns = {name: value for name, value in staged.items() if name != "token"}
    assert kept == {"id": kept["id"], **columns, "found_at": NOW, "closed_at": None}
    read = {name: value for name, value in kept.items() if name not in ("id", "shop_id", "day")}
    assert found == PaymentBreak(**read, is_open=True, is_correction=False)
    assert counts == {"amount": 1}


def test_break_that_is_gone_keeps_its_columns_and_has_an_end(shop: Engine) -> None:
    later = NOW + timedelta(hours=1)
    with transaction(shop) as tx:
        stage(tx)
        record_breaks(tx, FIRST)
        (before,) = select(tx, "reconciliation_breaks")
        record_breaks(tx, FIRST._replace(token="run-2", now=later))
        (after,) = select(tx, "reconciliation_breaks")
        (found,) = list_day_breaks(tx, 1, DAY.day, only_open=False)

    assert after == before | {"closed_at": later}
    assert (found.found_at, found.closed_at, found.is_open) == (NOW, later, False)


def test_corrections_of_a_closed_day_have_each_value_in_its_column(shop: Engine) -> None:
    later = NOW + timedelta(hours=1)
    with transaction(shop) as tx:
        close_month(tx)
        staged = stage(tx)
        record_breaks(tx, FIRST)
        (opened,) = list_day_breaks(tx, 1, DAY.day)
        record_breaks(tx, FIRST._replace(token="run-2", now=later))
        (ended,) = list_day_breaks(tx, 1, DAY.day, only_open=False)
        first, last = sorted(select(tx, "break_corrections"), key=lambda each: int(each["id"]))

    columns = {name: value for name, value in staged.items() if name not in ("token", "found_at")}
    assert first == {"id": first["id"], **columns, "change": "found", "at": NOW}
    assert last == {"id": last["id"], **columns, "change": "closed", "at": later}
    read = {name: value for name, value in columns.items() if name not in ("shop_id", "day")}
    read |= {"is_correction": True}
    assert opened == PaymentBreak(**read, found_at=NOW, closed_at=None, is_open=True)
    assert ended == PaymentBreak(**read, found_at=later, closed_at=later, is_open=False)


SIDE = {"currency": "CAD", "status": "paid"}


def test_each_rule_stages_its_breaks_in_the_right_columns(tx: Connection) -> None:
    order = "gid://shopify/Order/7"
    later = NOON + timedelta(minutes=1)
    recorded_rows = [
        row("ch_1", 1000, fee_cents=59, parent_id="pi_1"),
        row("ch_2", 700, order_ref=order),
        row("ch_3", 700, order_ref=order, at=later),
        row("ch_4", 400),
    ]
    add_recorded(tx, recorded_rows)
    tx.exec_driver_sql(
        "insert into order_transactions (shop_id, order_transaction_id, order_gid, kind, status, gateway, "
        "amount_cents, currency, payment_ref, processed_at) values (1, 5, 'gid://shopify/Order/8', 'sale', "
        "'success', 'stripe', 410, 'CAD', 'ch_4', %(at)s)",
        {"at": NOON},
    )
    tx.exec_driver_sql(
        "insert into balance_entries (shop_id, entry_id, kind, source_id, amount_cents, fee_cents, "
        "net_cents, currency, created_at) values (1, 'txn_1', 'charge', 'ch_4', 400, 30, 369, 'CAD', %(at)s)",
        {"at": NOON},
    )
    stripe_rows = [row("ch_1", 1001, fee_cents=60, at=later), *recorded_rows[1:]]
    match_rows(tx, stripe_rows, name="run-1")
    unreadable = UnreadableObject("ch_1", "charge", "no amount", {"amount_cents": 5, **SIDE})
    stage_unreadable(tx, FIRST, [unreadable])

    staged = {(each["kind"], each["provider_id"]): each for each in select(tx, "reconciliation_staging")}

    common = {"shop_id": 1, "day": DAY.day, "token": "run-1", "found_at": NOW, "cause_event_id": ""}

    def expect(
        subject: str, recorded_rows: int, stripe_rows: int, *fees: int, cause: str = ""
    ) -> dict[str, Any]:
        sides: list[dict[str, Any]] = [
            {"amount_cents": recorded_rows, **SIDE},
            {"amount_cents": stripe_rows, **SIDE},
        ]
        for side, fee in zip(sides, fees, strict=False):
            side["fee_cents"] = fee
        return {**common, "subject": subject, "ours": sides[0], "theirs": sides[1], "cause": cause}

    dated = {"parent_id": "pi_1", "ours_at": NOON, "theirs_at": later}
    expected = {
        ("amount", "ch_1"): (expect("charge", 1000, 1001), dated),
        ("fee", "ch_1"): (expect("charge", 1000, 1001, 59, 60), dated),
        ("duplicate", "ch_3"): (
            expect("charge", 700, 700),
            {"twin": "ch_2", "twin_at": NOON, "theirs_at": later, "order_ref": order},
        ),
        ("amount", "gid://shopify/Order/8"): (
            expect("order", 410, 400),
            {"charges": ["ch_4"], "order_transactions": ["5"]},
        ),
        ("fee", "txn_1"): (
            expect("balance", 400, 400, 31, 30),
            {"entry": "txn_1", "source": "ch_4", "looked_at": "sum", "net_cents": 369, "theirs_at": NOON},
        ),
        ("unreadable", "ch_1"): (
            expect("charge", 1000, 5, cause="unreadable_object"),
            {"why": "no amount"},
        ),
    }
    assert staged.keys() == expected.keys()
    for key, (columns, evidence) in expected.items():
        shown = dict(staged[key])
        kept = shown.pop("evidence")
        assert {"kind": shown.pop("kind"), "provider_id": shown.pop("provider_id")} == {
            "kind": key[0],
            "provider_id": key[1],
        }
        assert shown == columns, key
        assert {name: same_time(tx, value, evidence[name]) for name, value in kept.items()} == evidence


def same_time(tx: Connection, stored: Any, expected: Any) -> Any:
    """``stored`` as a time where ``expected`` is one: JSON has times as PostgreSQL writes them."""
    if not isinstance(expected, type(BEGINS)):
        return stored
    return tx.exec_driver_sql("select %(at)s::timestamptz", {"at": stored}).scalar()
