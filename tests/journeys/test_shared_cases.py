"""The shared cases, posted to the ingress and processed by the workers, have the right results.

They are not part of the project. One fleet for all of them, one shop for each.
"""

import base64
import csv
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import httpx
import orjson
import pytest
from click.testing import CliRunner

from services.cli.main import main
from services.closing.digest import record_owner_digest
from services.closing.profit_and_loss import net_sales
from services.core.clock import utc_now
from services.core.db import transaction
from services.demo.directory import use_fleet_settings
from services.jobs.definition import Covers
from services.jobs.handler import JobRun
from services.shops.secrets import record_secret
from services.shops.shops import add_shop
from tests.journeys.journey_fleet import JourneyFleet, wait_for

pytestmark = pytest.mark.xdist_group("journeys")

FOLDER = Path(__file__).parents[3] / "shared" / "cases" / "orders_and_refunds"
SECRET = "hush-shared-cases"


class Right(NamedTuple):
    """Accounts of a case in October, and the names of absent accounts."""

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


DIGEST, BYPASS = "digest", "stock_bypass"


def slug_of(case: str) -> str:
    """Return the shop of a case."""
    return f"case-{case.replace('_', '-')}"


@pytest.fixture(scope="module")
def worked(fleet: JourneyFleet) -> Iterator[Mapping[str, int]]:
    """Deliver every case in its order and process it; return shop ids by case."""
    if not FOLDER.is_dir():
        pytest.skip("the shared cases (../shared/cases) are missing")
    events = {path.stem: orjson.loads(path.read_bytes())["events"] for path in sorted(FOLDER.glob("*.json"))}
    with use_fleet_settings(fleet.env):
        shops = {case: add_case_shop(slug_of(case)) for case in events}
        with httpx.Client(base_url=f"http://127.0.0.1:{fleet.env['INGRESS_PORT']}", timeout=30) as http:
            for place in range(max(map(len, events.values()))):
                for case, of_case in events.items():
                    if place < len(of_case):
                        post(http, slug_of(case), **of_case[place])
                wait_for(lambda: not fleet.count_open_work(), seconds=90)
        yield shops


def add_case_shop(slug: str) -> int:
    """Add a shop in Vancouver whose bicycles are exempt from provincial tax; return its id."""
    with transaction() as tx:
        shop = add_shop(
            tx, slug=slug, name=slug, timezone="America/Vancouver", currency="CAD",
            shopify_domain=f"{slug}.myshopify.com", now=utc_now(),
        )  # fmt: skip
        record_secret(tx, shop.id, "shopify-webhook", SECRET, utc_now())
    run_fleet("month-close", "tax-profile", slug, "--province", "CA-BC", "--pst-exempt", "sku:bike")
    return shop.id


def post(http: httpx.Client, slug: str, topic: str, body: dict[str, Any]) -> None:
    """Deliver a webhook as Shopify does."""
    raw = orjson.dumps(body)
    digest = hmac.new(SECRET.encode(), raw, hashlib.sha256).digest()
    headers = {
        "X-Shopify-Topic": topic, "X-Shopify-Shop-Domain": f"{slug}.myshopify.com",
        "X-Shopify-API-Version": "2026-07", "X-Shopify-Hmac-Sha256": base64.b64encode(digest).decode(),
        "X-Shopify-Webhook-Id": hashlib.sha256(slug.encode() + raw + topic.encode()).hexdigest(),
        "Content-Type": "application/json",
    }  # fmt: skip
    answer = http.post(f"/webhooks/shopify/{slug}", content=raw, headers=headers)
    assert answer.status_code == 200, answer.text


def run_fleet(*args: str) -> str:
    """Run the command; return what it printed."""
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    return result.output


def preview(case: str, folder: Path) -> dict[str, int]:
    """Return October's accounts of a case by ``fleet month-close preview``; its files are in ``folder``."""
    printed = run_fleet("month-close", "preview", slug_of(case), "2026-10", "--to", str(folder), "--json")
    accounts: dict[str, int] = json.loads(printed)["figures"]["accounts"].get("CAD", {})
    return accounts


@pytest.mark.parametrize("case", RIGHT)
def test_case_has_the_right_accounts(worked: Mapping[str, int], tmp_path: Path, case: str) -> None:
    accounts = preview(case, tmp_path)

    right = RIGHT[case]
    assert net_sales(accounts) == right.net_sales
    assert right.accounts.items() <= accounts.items()
    assert not set(right.absent) & accounts.keys()


def test_no_work_of_a_case_is_left_or_dead(fleet: JourneyFleet, worked: Mapping[str, int]) -> None:
    left = """select s.slug, w.topic, w.status, w.error_code
                from work_queue w join shops s on s.id = w.shop_id
               where s.id = any(:ids) and w.status <> 'done'"""

    assert fleet.select(left, ids=list(worked.values())) == []


def test_every_case_has_its_right_value_here(worked: Mapping[str, int]) -> None:
    assert worked.keys() == {*RIGHT, DIGEST, BYPASS}


def test_weekly_digest_uses_the_rules_of_the_statement(
    worked: Mapping[str, int],
) -> None:
    run = JobRun(id=1, job="weekly-owner-digest", shop_id=worked[DIGEST], period="2026-W47",
                 covers=Covers.WEEK, zone=ZoneInfo("America/Vancouver"), request_id="r",
                 work_id=1)  # fmt: skip
    stats = record_owner_digest(run).stats

    assert (stats["net_CAD_cents"], stats["unpaid_CAD_cents"], stats["orders"]) == (9000, 5000, 1)


def test_a_bicycle_in_british_columbia_has_no_difference_of_tax(
    worked: Mapping[str, int], tmp_path: Path
) -> None:
    preview("pst_exempt_bike", tmp_path)

    summary = (tmp_path / "sales-tax-summary.csv").read_text("utf-8-sig").splitlines()
    assert [(row["tax"], row["difference"]) for row in csv.DictReader(summary)] == [("GST", "0.00")]


def test_an_order_that_left_shopifys_stock_alone_plans_no_push(
    fleet: JourneyFleet, worked: Mapping[str, int]
) -> None:
    pushes = "select count(*) from work_queue where topic = 'inventory_push' and shop_id = :id"
    levels = "select available from inventory_levels where shop_id = :id"

    assert fleet.select(pushes, id=worked[BYPASS]) == [(0,)]
    assert fleet.select(levels, id=worked[BYPASS]) == [(10,)]
