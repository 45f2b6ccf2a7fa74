"""The nightly job replaces the price of each day; shops without Twilio are skipped."""

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.costs.figures import collect_figures
from services.costs.sms_usage import SECRET, read_sms_costs
from services.jobs.definition import Covers
from services.jobs.handler import JobResult, JobRun
from services.shops.secrets import record_secret
from services.shops.shops import Shop, set_shop
from tests.costs.samples import NOW, add_limited_shop
from tests.fakes.settings import settings_of
from tests.fakes.web import Web
from tests.providers.test_twilio import ACCOUNT, TOKEN, error, page, record


@pytest.fixture
def twilio(environment: dict[str, str]) -> Iterator[Web]:
    with Web() as web, settings_of(TWILIO_API_BASE=web.url):
        yield web


@pytest.fixture
def shop(engine: Engine) -> Shop:
    with transaction(engine) as tx:
        added = add_limited_shop(tx)
        record_secret(tx, added.id, SECRET, f"{ACCOUNT}:{TOKEN}", utc_now())
        return added


def run_job(engine: Engine, shop: Shop, period: str = "2026-11-19") -> JobResult:
    run = JobRun(
        id=1, job="sms-costs", shop_id=shop.id, period=period, covers=Covers.DAY, zone=ZoneInfo("UTC"),
        request_id="r", work_id=1,
    )  # fmt: skip
    finished = read_sms_costs(run, clock=lambda: NOW)
    if finished.record:
        with transaction(engine) as tx:
            finished.record(tx)
    return finished


def stored(engine: Engine) -> list[tuple[object, ...]]:
    with transaction(engine) as tx:
        rows = tx.execute(
            text("select day::text, source, amount_micros, currency from metered_costs order by day")
        )
        return [tuple(row) for row in rows]


def test_a_later_run_replaces_the_price_of_a_day_and_adds_nothing(
    engine: Engine, twilio: Web, shop: Shop
) -> None:
    twilio.answers[:] = [
        page(record("2026-11-18", "1.50"), record("2026-11-19", "0.0079"), record("2026-11-20", None, None)),
        page(record("2026-11-18", "1.50"), record("2026-11-19", "2.25"), record("2026-11-20", "0.75"), "x"),
    ]
    first, second = run_job(engine, shop), run_job(engine, shop, "2026-11-20")

    assert (first.result, first.stats) == ("done", {"days": 3, "days_without_price": 1, "unreadable": 0})
    assert (second.result, second.stats["unreadable"]) == ("unreadable", 1)
    assert stored(engine) == [
        ("2026-11-18", "twilio", 1_500_000, "USD"),
        ("2026-11-19", "twilio", 2_250_000, "USD"),
        ("2026-11-20", "twilio", 750_000, "USD"),
    ]
    assert "StartDate=2026-10-21&EndDate=2026-11-20" in twilio.requests[0].path


def test_a_billed_month_over_the_budget_is_a_figure_by_the_stated_rate(
    engine: Engine, twilio: Web, shop: Shop
) -> None:
    twilio.answers[:] = [page(record("2026-10-31", "90"), record("2026-11-19", "22.00"))]
    run_job(engine, shop)

    with transaction(engine) as tx:
        figures = collect_figures(tx, NOW)
        assert [one.value for one in figures["sms_over_budget"]] == [0]
        assert [one.detail["left"] for one in figures["cost_not_converted"]] == ["22.00 USD"]
        set_shop(tx, "harbour", {"exchange_rates": "USD/CAD=1.4"}, now=NOW)
        figures = collect_figures(tx, NOW)
        assert [round(one.value) for one in figures["sms_over_budget"]] == [154]
        assert figures["sms_over_budget"][0].detail["spent"] == "22.00 USD"


def test_a_shop_without_twilio_is_skipped(engine: Engine, twilio: Web) -> None:
    with transaction(engine) as tx:
        shop = add_limited_shop(tx)
    assert run_job(engine, shop).result == "no_twilio"
    assert twilio.requests == []


def test_refused_credentials_record_nothing(engine: Engine, twilio: Web, shop: Shop) -> None:
    twilio.answers[:] = [page(record("2026-11-18", "1.50"), following="/2010-04-01/next"), error(401, 20003)]
    with pytest.raises(Misconfigured, match="HTTP 401 20003"):
        run_job(engine, shop)
    assert stored(engine) == []


def test_the_days_are_those_of_utc(engine: Engine, twilio: Web, shop: Shop) -> None:
    twilio.answers[:] = [page(record("2026-12-01", "5.00", "cad"))]
    run_job(engine, shop)

    with transaction(engine) as tx:
        in_november = datetime(2026, 12, 1, 7, 59, tzinfo=UTC)  # still November in Los Angeles
        assert [one.value for one in collect_figures(tx, in_november)["sms_over_budget"]] == []
        in_december = datetime(2026, 12, 1, 8, tzinfo=UTC)
        assert [one.value for one in collect_figures(tx, in_december)["sms_over_budget"]] == [25]
