"""Orders and refunds as payloads: each comes to what is right, from the webhook to the package."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson
import pytest
from sqlalchemy import Engine

from services.closing.digest import send_digest
from services.closing.month_books import get_books, hold_one_state
from services.closing.package import build_package
from services.closing.profit import net_sales
from services.core.db import transaction
from services.jobs.effect import Run
from services.jobs.job import Covers
from services.ledger.accept import NewEvent, record_events
from services.ledger.run_own import OwnRunner
from services.ledger.topics import TOPICS
from services.shops.shops import get_shop_by_id
from services.storefront.locations import ingest_locations
from services.storefront.order_transactions import ingest_order_transactions
from services.storefront.orders import ingest_orders
from services.storefront.products import ingest_products
from services.storefront.refunds import ingest_refunds
from tests.storefront.bodies import add_shop, rows

VANCOUVER = ZoneInfo("America/Vancouver")
RECEIVED = datetime(2026, 10, 20, 12, tzinfo=UTC)
EFFECTS = {
    "order_ingest": ingest_orders,
    "refund_ingest": ingest_refunds,
    "order_transaction_ingest": ingest_order_transactions,
    "location_ingest": ingest_locations,
    "product_ingest": ingest_products,
}
FOLDER = Path(__file__).parents[3] / "shared" / "cases" / "orders_and_refunds"


class Right(NamedTuple):
    """What a case should come to in October, and the accounts that should not be there at all."""

    net_sales: int
    accounts: dict[str, int]
    absent: Sequence[str] = ()


_GST, _PST = "tax:CA-BC:GST", "tax:CA-BC:PST"
_SALE = {"gross_sales": 10_000, _GST: 500, _PST: 700}
_NONE = ("gross_sales", _GST, _PST, "refund_adjustments")
RIGHT = {
    "c-voidednc": Right(0, {}, _NONE),
    "d-shipnoset": Right(11_000, {"shipping": 1000, _GST: 550, _PST: 770}),
    "d-taxnull": Right(10_000, {"gross_sales": 10_000}),
    "decimals": Right(6666, {"gross_sales": 10_000, "discounts": -3334}),
    "dup-ids": Right(20_000, {"gross_sales": 20_000, _GST: 1000, _PST: 1400}),
    "duties": Right(0, {"gross_sales": 10_000, "returns": -10_000}, ("duties", "refund_adjustments")),
    "exchange": Right(8000, {_GST: 400, _PST: 560}, ("refund_adjustments",)),
    "fxgesture": Right(9000, {"refund_adjustments": -1000}),
    "fxrefund": Right(0, {"returns": -10_000}, (_GST, _PST, "refund_adjustments")),
    "imported": Right(0, {}, _NONE),
    "incdisc": Right(9000, {"gross_sales": 10_000, "discounts": -1000}),
    "liable": Right(10_000, {"channel_tax": 1200}, (_GST, _PST)),
    "orderlevel": Right(10_000, _SALE),
    "partpaid": Right(0, {}, (_GST, _PST, "refund_adjustments")),
    "pendrefund": Right(5000, {"refund_adjustments": -5000}),
    "pos": Right(10_000, _SALE),
    "provname": Right(10_000, _SALE),
    "pst_exempt_bike": Right(100_000, {_GST: 5000}, (_PST,)),
    "rate4": Right(10_000, _SALE),
    "removed": Right(15_000, {"unpaid_sales": 15_000}),
    "shiprem": Right(10_000, _SALE, ("shipping",)),
    "test": Right(0, {}, _NONE),
    "tip": Right(10_000, {**_SALE, "tips": 1500}),
    "tiprefund": Right(0, {"returns": -10_000}, ("tips", "refund_adjustments")),
}


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A shop in Vancouver whose bicycles are exempt from provincial tax."""
    add_shop(engine)
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shops set timezone = 'America/Vancouver', currency = 'CAD'")
        tx.exec_driver_sql(
            "update shop_config set settings = settings || "
            """'{"tax": {"province": "CA-BC", "pst_exempt": ["sku:bike"]}}'::jsonb"""
        )
    return engine


def deliver(engine: Engine, events: Sequence[dict[str, Any]]) -> None:
    """Accept ``events`` as webhooks, and do the work that they plan, one after the other."""
    for number, event in enumerate(events):
        received = RECEIVED + timedelta(minutes=number)
        new = NewEvent(
            shop_id=1, provider="shopify", topic=event["topic"], delivery_key=f"d{number}",
            body=orjson.dumps(event["body"]), received_at=received, occurred_at=received,
        )  # fmt: skip
        with transaction(engine) as tx:
            record_events(tx, [new])
        for topic, effect in EFFECTS.items():
            OwnRunner(engine, "tests", random.Random(1)).run_set(TOPICS[topic], effect)
    left = "select topic, status, error_code, last_error from work_queue where status <> 'done'"
    assert [row for row in rows(engine, left) if row[0] in EFFECTS] == []


def close(engine: Engine, folder: Path) -> dict[str, int]:
    """Return October's accounts of the package that ``fleet close preview`` writes."""
    with transaction(engine) as tx:
        hold_one_state(tx)
        books = get_books(tx, get_shop_by_id(tx, 1), "2026-10", VANCOUVER)
        accounts: dict[str, int] = build_package(tx, books, [], folder).figures["accounts"].get("CAD", {})
        return accounts


@pytest.fixture
def cases() -> Path:
    """The collected payloads, which are not part of the project."""
    if not FOLDER.is_dir():
        pytest.skip("the collected payloads (../shared/cases) are not here")
    return FOLDER


@pytest.mark.parametrize("name", RIGHT)
def test_a_collected_case_comes_to_what_is_right(
    shop: Engine, cases: Path, tmp_path: Path, name: str
) -> None:
    deliver(shop, orjson.loads((cases / f"{name}.json").read_bytes())["events"])

    accounts = close(shop, tmp_path)

    right = RIGHT[name]
    assert net_sales(accounts) == right.net_sales
    assert right.accounts.items() <= accounts.items()
    assert not set(right.absent) & accounts.keys()


def test_the_digest_of_a_week_has_what_came_in_by_the_rules_of_the_statement(
    shop: Engine, cases: Path
) -> None:
    deliver(shop, orjson.loads((cases / "digest.json").read_bytes())["events"])

    run = Run(id=1, job="weekly-owner-digest", shop_id=1, period="2026-W47", covers=Covers.WEEK,
              zone=VANCOUVER, request_id="r", work_id=1)  # fmt: skip
    stats = send_digest(run).stats

    assert (stats["net_CAD_cents"], stats["unpaid_CAD_cents"], stats["orders"]) == (9000, 5000, 1)


def test_no_false_difference_of_a_bicycle_in_british_columbia(
    shop: Engine, cases: Path, tmp_path: Path
) -> None:
    deliver(shop, orjson.loads((cases / "pst_exempt_bike.json").read_bytes())["events"])

    close(shop, tmp_path)

    header, *summary = (tmp_path / "sales-tax-summary.csv").read_text("utf-8-sig").splitlines()
    place = header.split(",").index("difference")
    assert [row.split(",")[1:2] + row.split(",")[place : place + 1] for row in summary] == [["GST", "0.00"]]
