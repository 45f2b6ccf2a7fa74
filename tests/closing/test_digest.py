"""Job ``weekly-owner-digest``: the week in the shop's zone with the week before, mailed once."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text

from services.closing.digest import choose_currency, plan_bars, plan_digest_context, record_owner_digest
from services.closing.sales import DaySales, TopSeller
from services.core.db import transaction
from services.jobs.definition import Covers
from services.jobs.handler import JobResult, JobRun
from services.shops.shops import ShopInvalid
from services.shops.staff import record_staff
from tests.shopify.sample_payloads import add_shop, rows

NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
MONDAY = date(2026, 11, 16)
ZONE = ZoneInfo("America/Los_Angeles")

ORDER = """
insert into orders (shop_id, order_gid, name, total_cents, currency, financial_status, placed_at, updated_at,
                    customer_id, staff_label, taxes_included, deleted_at, cancelled_at)
values (1, :gid, :gid, 0, :currency, :status, :at, :at, :customer, :staff, :included, :deleted, :cancelled)
"""
LINE = """
insert into order_lines (shop_id, order_gid, line_id, sku, title, quantity, price_cents, discount_cents,
                         taxes, is_gift_card)
values (1, :gid, :line, :sku, :title, :quantity, :price, :discount, cast(:taxes as jsonb), :gift)
"""


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A shop with an owner address."""
    add_shop(engine)
    with transaction(engine) as tx:
        tx.execute(text("update shop_config set owner_email = 'owner@example.com'"))
    return engine


def sell(
    engine: Engine, gid: str, day: date, hour: int = 12, *, price: int = 1000, quantity: int = 1,
    discount: int = 0, status: str = "paid", currency: str = "CAD", customer: int | None = None,
    staff: str = "", sku: str = "MUG", taxes: str | None = None, included: bool = False, gift: bool = False,
    deleted: bool = False, cancelled: bool = False,
) -> None:  # fmt: skip
    """Insert an order of one line, placed on the shop's ``day``."""
    at = datetime(day.year, day.month, day.day, hour, tzinfo=ZONE)
    with transaction(engine) as tx:
        tx.execute(
            text(ORDER),
            {"gid": gid, "currency": currency, "status": status, "at": at, "customer": customer,
             "staff": staff, "included": included, "deleted": at if deleted else None,
             "cancelled": at if cancelled else None},
        )  # fmt: skip
        tx.execute(
            text(LINE),
            {"gid": gid, "line": 1, "sku": sku, "title": f"A {sku.lower()}", "quantity": quantity,
             "price": price, "discount": discount, "taxes": taxes, "gift": gift},
        )  # fmt: skip


def give_back(engine: Engine, gid: str, day: date, cents: int) -> None:
    at = datetime(day.year, day.month, day.day, 15, tzinfo=ZONE)
    with transaction(engine) as tx:
        tx.execute(
            text(
                "insert into order_refunds (shop_id, refund_id, order_gid, amount_cents, currency, "
                "refunded_at) values (1, 9, :gid, :cents, 'CAD', :at)"
            ),
            {"gid": gid, "cents": cents, "at": at},
        )
        tx.execute(
            text(
                "insert into order_refund_lines (shop_id, refund_line_id, refund_id, order_gid, line_id, "
                "quantity, subtotal_cents) values (1, 91, 9, :gid, 1, 1, :cents)"
            ),
            {"gid": gid, "cents": cents},
        )


def digest(engine: Engine) -> JobResult:
    run = JobRun(
        id=1, job="weekly-owner-digest", shop_id=1, period="2026-W47", covers=Covers.WEEK, zone=ZONE,
        request_id="req-1", work_id=1,
    )  # fmt: skip
    finished = record_owner_digest(run)
    if finished.record:
        with transaction(engine) as tx:
            finished.record(tx)
    return finished


def mail(engine: Engine) -> str:
    ((body,),) = rows(engine, "select text from mail_outbox")
    return str(body)


def test_revenue_is_net_of_discounts_taxes_and_refunds_and_leaves_out_what_was_not_sold(shop: Engine) -> None:
    sell(shop, "a", MONDAY, price=1000, quantity=2, discount=150)
    sell(shop, "b", MONDAY, price=1120, taxes='[{"title": "GST", "cents": 50}, {"cents": 70}]', included=True)
    sell(shop, "never paid", MONDAY, status="voided", cancelled=True)
    sell(shop, "gift card", MONDAY, gift=True)
    sell(shop, "deleted", MONDAY, deleted=True)
    give_back(shop, "a", MONDAY + timedelta(days=6), 500)

    finished = digest(shop)

    assert finished.stats == {"orders": 2, "net_CAD_cents": 1850 + 1000 - 500, "mails": 1}
    assert "This week:        23.50 CAD, 2 orders" in mail(shop)
    assert "Refunds given this week: 5.00 CAD." in mail(shop)


def test_days_are_in_the_shops_zone_and_the_week_before_is_shown(shop: Engine) -> None:
    sell(shop, "first minute", MONDAY, 0, price=100)
    sell(shop, "last hour", MONDAY + timedelta(days=6), 23, price=300)
    sell(shop, "sunday before", MONDAY - timedelta(days=1), 23, price=5000)
    sell(shop, "two weeks back", MONDAY - timedelta(days=8), price=7777)
    sell(shop, "monday after", MONDAY + timedelta(days=7), 0, price=9999)

    digest(shop)

    mail_text = mail(shop)
    assert "This week:        4.00 CAD" in mail_text
    assert "The week before:  50.00 CAD" in mail_text
    assert "99.99" not in mail_text
    assert "77.77" not in mail_text


def test_best_sellers_have_readable_names(shop: Engine) -> None:
    sell(shop, "a", MONDAY, price=5000, staff="user:4711", customer=7, sku="TUNE")
    sell(shop, "b", MONDAY, price=4000, staff="Miguel", customer=8, sku="CHAIN")
    sell(shop, "c", MONDAY, price=100, staff="user:99", customer=7, sku="")
    with transaction(shop) as tx:
        record_staff(tx, "harbour", {"4711": "Dana"}, NOW, by="ada", request_id="r")
        tx.execute(
            text(
                "insert into customers (shop_id, customer_id, name, email, updated_at) values "
                "(1, 7, 'Robin Ames', 'robin@example.com', :now), (1, 8, '', '', :now)"
            ),
            {"now": NOW},
        )

    digest(shop)

    mail_text = mail(shop)
    for line in ("1. Dana", "2. Miguel", "3. Staff 99", "1. Robin Ames", "2. Customer 8", "1. A tune  TUNE"):
        assert line in mail_text
    assert "robin@example.com" not in mail_text


def test_week_without_sales_is_mailed_too(shop: Engine) -> None:
    assert digest(shop).stats == {"orders": 0, "mails": 1}

    assert "NO SALES LAST WEEK" in mail(shop)


def test_second_run_and_shop_without_address_send_no_mail(shop: Engine) -> None:
    digest(shop)
    digest(shop)
    assert rows(shop, "select count(*) from mail_outbox") == [(1,)]

    with transaction(shop) as tx:
        tx.execute(text("update shop_config set owner_email = ''"))
    assert digest(shop).result == "no_owner_email"


def test_each_currency_has_its_own_sum() -> None:
    days = [DaySales("CAD", MONDAY, 1000, 0, 1), DaySales("JPY", MONDAY, 99_000, 0, 1)]

    facts = plan_digest_context(MONDAY, "CAD", days, [], [], [])

    assert (facts["revenue"], facts["others"]) == ("10.00 CAD", ["99,000 JPY"])
    assert choose_currency("CAD", days) == "CAD"
    assert choose_currency("EUR", days) == "JPY"
    assert choose_currency("EUR", []) == "EUR"


def test_bars_are_shares_of_the_longest_and_small_ones_stay_visible() -> None:
    days = [
        DaySales("CAD", MONDAY, 20_000, 0, 1),
        DaySales("CAD", MONDAY + timedelta(days=1), 1, 0, 1),
        DaySales("CAD", MONDAY - timedelta(days=7), 10_000, 0, 1),
        DaySales("CAD", MONDAY + timedelta(days=2), -500, 500, 0),
    ]

    bars = plan_bars(MONDAY, "CAD", days)

    assert [bar["width"] for bar in bars] == [100, 1, 0, 0, 0, 0, 0]
    assert [bar["width_before"] for bar in bars] == [50, 0, 0, 0, 0, 0, 0]
    assert [bar["day"] for bar in bars] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


@pytest.mark.parametrize(
    ("now", "then", "mail_text"),
    [
        (112, 100, "+12%"),
        (50, 100, "\N{MINUS SIGN}50%"),
        (100, 0, ""),
        (1, 3, "\N{MINUS SIGN}67%"),
        (3, 3, "+0%"),
    ],
)
def test_change_is_in_percent_if_there_is_a_value_to_compare(now: int, then: int, mail_text: str) -> None:
    days = [DaySales("CAD", MONDAY, now, 0, 1), DaySales("CAD", MONDAY - timedelta(days=1), then, 0, 1)]

    assert (
        plan_digest_context(MONDAY, "CAD", days, [], [TopSeller("7", "Robin", 1, 1, 1)], [])["revenue_change"]
        == mail_text
    )


def test_staff_is_named_by_number_only(shop: Engine) -> None:
    with transaction(shop) as tx, pytest.raises(ShopInvalid, match="'x1' should be digits only"):
        record_staff(tx, "harbour", {"x1": "Dana"}, NOW, by="ada", request_id="r")
    with transaction(shop) as tx:
        record_staff(tx, "harbour", {"1": "Dana", "2": "Lee"}, NOW, by="ada", request_id="r")
        assert record_staff(tx, "harbour", {"1": ""}, NOW, by="ada", request_id="r") == {"2": "Lee"}
    summaries = rows(shop, "select summary from audit_mutations where summary like 'named staff%'")
    assert summaries == [("named staff 1, 2 of harbour",), ("named staff 1 of harbour",)]
