"""An unreadable object in a Stripe list is a break; all other objects of the day are compared."""

from collections.abc import Iterator
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from services.audit.append import append_all
from services.closing.daily_mail import plan_break_attachments, plan_break_context
from services.core.db import transaction
from services.core.errors import Refused
from services.core.settings import get_settings
from services.jobs.definition import Covers
from services.jobs.handler import JobResult, JobRun
from services.payments.breaks import list_day_breaks
from services.payments.reconcile import reconcile_day
from services.payments.trace import trace_payment
from services.shops.secrets import record_secret
from tests.fakes.stripe import StripeApi
from tests.payments.day_rows import BEGINS, NOW, add_recorded, row
from tests.payments.test_balance import entry
from tests.shopify.sample_payloads import add_shop, rows

DAY = date(2026, 11, 20)
AT = int(BEGINS.timestamp()) + 3600


def charge(name: str = "ch_1", **fields: Any) -> dict[str, Any]:
    usual = {"id": name, "object": "charge", "status": "succeeded", "amount": 1000, "amount_refunded": 0,
             "currency": "cad", "created": AT, "captured": True}  # fmt: skip
    return usual | fields


def refund(name: str = "re_1", **fields: Any) -> dict[str, Any]:
    usual = {"id": name, "object": "refund", "status": "succeeded", "amount": 500, "currency": "cad",
             "created": AT, "charge": "ch_1"}  # fmt: skip
    return usual | fields


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeApi]:
    with StripeApi() as started:
        started.lists = {
            kind: []
            for kind in ("charges", "refunds", "disputes", "payouts", "balance_transactions", "events")
        }
        monkeypatch.setenv("STRIPE_API_BASE", started.url)
        get_settings.cache_clear()
        yield started
    get_settings.cache_clear()


@pytest.fixture
def shop(engine: Engine, api: StripeApi) -> Engine:
    add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, 1, "stripe-key", api.key, NOW)
    return engine


def compare(engine: Engine) -> JobResult:
    run = JobRun(id=1, job="daily-reconciliation", shop_id=1, period=DAY.isoformat(), covers=Covers.DAY,
              zone=ZoneInfo("America/Los_Angeles"), request_id="req-1", work_id=1)  # fmt: skip
    outcome = reconcile_day(run, clock=lambda: NOW)
    with transaction(engine) as tx:
        append_all(tx, outcome.record(tx).audit if outcome.record else [], NOW)
    return outcome


def found(engine: Engine) -> list[tuple[str, str, str, str]]:
    with transaction(engine) as tx:
        return [(b.kind, b.subject, b.provider_id, b.cause) for b in list_day_breaks(tx, 1, DAY)]


def test_a_refund_whose_status_is_null_is_a_break_and_the_rest_is_compared(
    shop: Engine, api: StripeApi
) -> None:
    api.lists["refunds"] = [refund(status=None), refund("re_2")]
    api.lists["charges"] = [charge()]
    with transaction(shop) as tx:
        add_recorded(tx, [row("ch_1", 1000), row("re_1", 500, kind="refund")])

    outcome = compare(shop)

    assert found(shop) == [
        ("missing_here", "refund", "re_2", "unknown"),
        ("unreadable", "refund", "re_1", "unreadable_object"),
    ]
    assert outcome.stats["breaks_unreadable"] == 1
    with transaction(shop) as tx:
        unreadable = list_day_breaks(tx, 1, DAY)[1]
    assert unreadable.ours == {"amount_cents": 500, "currency": "CAD", "status": "succeeded"}
    assert unreadable.theirs == {"amount_cents": 500, "currency": "CAD", "status": "unreadable"}
    assert unreadable.evidence["why"].startswith("status is None: it should be text")
    ((summary,),) = rows(shop, "select summary from audit_mutations where summary like '%%unreadable%%'")
    assert summary.endswith("re_1 (unreadable), 5.00 CAD succeeded here, 5.00 CAD unreadable at Stripe")


@pytest.mark.parametrize(
    "odd",
    [None, "ch_9", {}, {"object": "charge"}, charge(amount=None), charge(currency=None), charge(created=None),
     charge(amount="10.00"), charge(amount=10.5), charge(object="source"), charge(id=None),
     charge(amount_refunded=None), charge(currency=7)],
)  # fmt: skip
def test_object_without_a_field_stops_neither_the_day_nor_the_mail(
    shop: Engine, api: StripeApi, odd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {"object": "list", "data": [odd, charge("ch_2")], "has_more": False}
    api.objects["/v1/charges"] = page

    compare(shop)

    kinds = [(kind, subject) for kind, subject, _, _ in found(shop)]
    assert kinds == [("missing_here", "charge"), ("unreadable", "charge")]
    with transaction(shop) as tx:
        breaks = list_day_breaks(tx, 1, DAY)
    facts = plan_break_context(DAY, breaks)
    assert facts["count"] == 2
    assert {charge_row["difference"] for charge_row in facts["charges"]} == {"+10.00 CAD", "not compared"}
    assert facts["nets"] == ["+10.00 CAD"]
    assert plan_break_attachments(DAY, breaks) == ()


def test_a_balance_entry_that_cannot_be_read_is_a_break_and_the_other_ones_are_kept(
    shop: Engine, api: StripeApi
) -> None:
    api.lists["balance_transactions"] = [entry(1, created=AT), entry(2, created=AT, fee=None)]

    compare(shop)

    assert rows(shop, "select entry_id from balance_entries") == [("txn_0001",)]
    assert found(shop) == [("unreadable", "balance", "txn_0002", "unreadable_object")]


def test_a_break_of_an_object_that_is_readable_later_closes(shop: Engine, api: StripeApi) -> None:
    api.lists["refunds"] = [refund(status=None)]
    compare(shop)
    api.lists["refunds"] = [refund()]

    compare(shop)

    assert [kind for kind, *_ in found(shop)] == ["missing_here"]


def test_lists_of_another_shape_fail_the_comparison(
    shop: Engine, api: StripeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.payments.stripe_lists.MAX_UNREADABLE", 2)
    api.lists["refunds"] = [refund(f"re_{number}", amount=None) for number in range(3)]

    with pytest.raises(Refused, match="more than 2 objects of the day cannot be read"):
        compare(shop)


@pytest.mark.parametrize(
    ("currency", "at_stripe", "minor"), [("isk", 50_000, 500), ("ugx", 50_000, 500), ("mga", 500, 50_000)]
)
def test_stripe_s_own_decimals_of_a_currency_become_those_of_iso(
    shop: Engine, api: StripeApi, currency: str, at_stripe: int, minor: int
) -> None:
    api.lists["charges"] = [charge(amount=at_stripe, currency=currency)]
    api.lists["balance_transactions"] = [
        entry(1, created=AT, currency=currency, amount=at_stripe, fee=250, net=at_stripe - 250)
    ]
    with transaction(shop) as tx:
        add_recorded(tx, [row("ch_1", minor, currency=currency.upper())])

    compare(shop)

    assert found(shop) == []
    fee = {"isk": 3, "ugx": 3, "mga": 25_000}[currency]
    assert rows(shop, "select amount_cents, fee_cents, net_cents from balance_entries") == [
        (minor, fee, minor - fee)
    ]
    with transaction(shop) as tx:
        charged = next(step for step in trace_payment(tx, 1, "ch_1") if step.what == "charge")
    assert (charged.amount_cents, charged.currency) == (minor, currency.upper())
