"""Rows of a small October with every tax case, and its month close."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection, Engine, text

from services.closing.month_close import close_month
from services.core.db import transaction
from services.jobs.definition import Covers
from services.jobs.handler import JobResult, JobRun
from tests.shopify.sample_payloads import add_shop

ZONE = ZoneInfo("America/Los_Angeles")
PERIOD = "2026-10"
NOW = datetime(2026, 11, 1, 10, 0, tzinfo=UTC)


def tax(title: str, rate: str, cents: int) -> dict[str, Any]:
    return {"title": title, "rate": rate, "cents": cents}


def gst_pst(gst: int, pst: int) -> list[dict[str, Any]]:
    return [tax("GST", "0.05", gst), tax("PST (BC)", "0.07", pst)]


def at(day: int, hour: int = 12, month: int = 10, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, tzinfo=ZONE)


def insert(tx: Connection, table: str, **values: Any) -> None:
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    ready = {
        name: orjson.dumps(value).decode() if isinstance(value, list | dict) else value
        for name, value in values.items()
    }
    tx.execute(text(f"insert into {table} ({names}) values ({marks})"), ready)  # noqa: S608


def line(
    line_id: int,
    cents: int,
    taxes: list[dict[str, Any]] | None = None,
    *,
    quantity: int = 1,
    sku: str = "MUG",
    title: str = "A mug",
    **more: Any,
) -> dict[str, Any]:
    return {"line_id": line_id, "price_cents": cents, "taxes": taxes, "quantity": quantity, "sku": sku,
            "title": title, **more}  # fmt: skip


def add_order(
    tx: Connection,
    number: int,
    placed_at: datetime,
    lines: Sequence[dict[str, Any]],
    *,
    province: str = "CA-BC",
    currency: str = "CAD",
    **more: Any,
) -> None:
    gid = f"gid://shopify/Order/{number}"
    row = {"shop_id": 1, "order_gid": gid, "name": f"#{number}", "total_cents": 0, "currency": currency,
           "financial_status": "paid", "placed_at": placed_at, "updated_at": placed_at, "tax_cents": 0,
           "province": province}  # fmt: skip
    insert(tx, "orders", **(row | more))
    for one in lines:
        insert(tx, "order_lines", shop_id=1, order_gid=gid, **one)


def add_refund(
    tx: Connection,
    refund_id: int,
    number: int,
    refunded_at: datetime,
    amount: int,
    lines: Sequence[tuple[int, int, int, int]],
    *,
    currency: str = "CAD",
    **more: Any,
) -> None:
    """Insert a refund of ``lines`` as (line, pieces, subtotal, tax)."""
    gid = f"gid://shopify/Order/{number}"
    parts = sum(subtotal + tax_cents for _, _, subtotal, tax_cents in lines)
    parts += more.get("shipping_cents", 0) + more.get("shipping_tax_cents", 0)
    if not lines:
        more.setdefault("adjustment_cents", parts - amount)
    insert(tx, "order_refunds", shop_id=1, refund_id=refund_id, order_gid=gid, amount_cents=amount,
           currency=currency, refunded_at=refunded_at, **more)  # fmt: skip
    for place, (line_id, quantity, subtotal, tax_cents) in enumerate(lines):
        insert(tx, "order_refund_lines", shop_id=1, refund_line_id=refund_id * 100 + place,
               refund_id=refund_id, order_gid=gid, line_id=line_id, quantity=quantity,
               subtotal_cents=subtotal, tax_cents=tax_cents)  # fmt: skip


def add_cost(tx: Connection, item_id: int, sku: str, cost_cents: int | None) -> None:
    insert(tx, "inventory_items", shop_id=1, inventory_item_id=item_id, sku=sku, cost_cents=cost_cents,
           updated_at=at(1))  # fmt: skip


def add_october(engine: Engine) -> None:
    """Insert a shop in Vancouver and its October."""
    add_shop(engine)
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shops set name = 'Harbour & Söhne'")
        tx.exec_driver_sql(
            """update shop_config set owner_email = 'owner@example.com',
                 accountant_email = 'books@example.com',
                 settings = settings || '{"tax": {"province": "CA-BC", "gst_number": "123456789 RT0001",
                 "pst_number": "PST-1234-5678"}}'::jsonb"""
        )
        _add_sales(tx)
        _add_odd_orders(tx)
        _add_refunds(tx)
        _add_money(tx)


def _add_sales(tx: Connection) -> None:
    # Two mugs with a discount, a book that is not taxable, and shipping: separate GST and PST.
    add_order(
        tx, 1001, at(5),
        [
            line(11, 1250, gst_pst(113, 158), quantity=2, discount_cents=250),
            line(12, 1995, None, sku="BOOK", title="A book", is_taxable=False),
        ],
        shipping_cents=800, shipping_taxes=gst_pst(40, 56), discount_cents=250,
    )  # fmt: skip
    # Free shipping by a code: the discount is on no line.
    add_order(tx, 1002, at(6), [line(21, 1250, gst_pst(63, 88))], shipping_cents=900, discount_cents=900)
    # Ontario, prices with tax within.
    add_order(
        tx, 1003, at(7), [line(31, 1130, [tax("HST", "0.13", 130)])], province="CA-ON", taxes_included=True
    )
    # Quebec, both taxes in one line.
    add_order(tx, 1004, at(8), [line(41, 10_000, [tax("TPS/TVQ", "0.14975", 1498)])], province="CA-QC")
    # A title and a SKU that look like formulas; PST is missing.
    add_order(
        tx, 1005, at(9),
        [line(51, 2000, [tax("GST", "0.05", 100)], sku="-5+3", title='=HYPERLINK("http://x.example","Mug")')],
    )  # fmt: skip
    # A gift card and a mug, over the counter: the order has no province, its location has.
    insert(tx, "locations", shop_id=1, location_id=9, name="Main", province="CA-BC", updated_at=at(1))
    add_order(
        tx, 1006, at(10),
        [
            line(61, 5000, None, sku="GIFT", title="Gift card", is_gift_card=True, is_taxable=False),
            line(62, 1250, gst_pst(63, 88)),
        ],
        province="", location_id=9,
    )  # fmt: skip
    # Nova Scotia today, and other countries and currencies.
    add_order(tx, 1007, at(11), [line(71, 10_000, [tax("HST", "0.14", 1400)])], province="CA-NS")
    add_order(tx, 1008, at(12), [line(81, 2000, [tax("CA State Tax", "0.0725", 145)])], province="US-CA")
    add_order(
        tx, 1009, at(13), [line(91, 1500, [tax("Consumption Tax", "0.1", 150)])], province="JP-13",
        currency="JPY",
    )  # fmt: skip
    add_order(tx, 1010, at(14), [line(101, 1_250, None)], province="KW", currency="KWD")


def _add_odd_orders(tx: Connection) -> None:
    # One order is in October in UTC-7 and in November in UTC, the other in November in both.
    add_order(
        tx,
        1011,
        datetime(2026, 11, 1, 6, 30, tzinfo=UTC),
        [line(111, 700, gst_pst(35, 49))],
    )
    add_order(tx, 1012, datetime(2026, 11, 1, 7, 30, tzinfo=UTC), [line(121, 9900, gst_pst(495, 693))])
    add_order(tx, 1013, at(15), [line(131, 9900, None)], deleted_at=at(16))
    add_order(tx, 1014, at(15), [line(141, 9900, None)], cancelled_at=at(16), financial_status="voided")
    # September, for the month before.
    add_order(tx, 990, at(20, month=9), [line(901, 3000, gst_pst(150, 210))])


def _add_refunds(tx: Connection) -> None:
    # One of the two mugs, with a tax that does not split evenly; and a part of the shipping.
    add_refund(tx, 1, 1001, at(20), 1125 + 135 + 400 + 48, [(11, 1, 1125, 135)],
               shipping_cents=400, shipping_tax_cents=48)  # fmt: skip
    # Sold at 15% in Nova Scotia, refunded at the same rate.
    add_order(
        tx, 500, at(30, month=3, year=2025), [line(5001, 10_000, [tax("HST", "0.15", 1500)])],
        province="CA-NS",
    )  # fmt: skip
    add_refund(tx, 2, 500, at(21), 11_500, [(5001, 1, 10_000, 1500)])
    # A goodwill refund of five dollars, and a refund with tax within the price.
    add_refund(tx, 3, 1002, at(22), 500, [])
    add_refund(tx, 4, 1003, at(23), 1130, [(31, 1, 1130, 130)])
    # A refund of an order that is not recorded.
    add_refund(tx, 5, 77, at(24), 100, [])


def _add_money(tx: Connection) -> None:
    add_cost(tx, 1, "MUG", 410)
    add_cost(tx, 2, "BOOK", None)
    add_cost(tx, 3, "-5+3", 555)
    for number, (kind, cents, fee) in enumerate(
        (("charge", 3300, 126), ("charge", 1400, 71), ("stripe_fee", -250, 0)), start=1
    ):
        insert(tx, "balance_entries", shop_id=1, entry_id=f"txn_{number}", kind=kind,
               source_id=f"ch_{number}", amount_cents=cents, fee_cents=fee,
               net_cents=cents - fee, currency="CAD",
               created_at=at(number + 4))  # fmt: skip
    for provider_id, kind, status, cents, fee in (
        ("ch_1", "charge", "paid", 3300, 126), ("ch_9", "charge", "paid", 900, 56),
        ("dp_1", "dispute", "lost", 2500, None), ("dp_2", "dispute", "won", 900, None),
    ):  # fmt: skip
        insert(tx, "transactions", shop_id=1, provider_id=provider_id, kind=kind, status=status,
               amount_cents=cents, fee_cents=fee, currency="CAD", occurred_at=at(8),
               version_at=at(8))  # fmt: skip


def close(period: str = PERIOD, now: datetime = NOW, zone: ZoneInfo = ZONE) -> JobResult:
    """Run the month close as a worker does."""
    run = JobRun(
        id=1, job="monthly-close", shop_id=1, period=period, covers=Covers.MONTH, zone=zone,
        request_id="req-1", work_id=1,
    )  # fmt: skip
    return close_month(run, clock=lambda: now)
