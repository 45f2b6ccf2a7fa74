"""A cost counts once, in the month of its shop's zone, against a limit in the limit's currency."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from services.alerts.decide import Change
from services.alerts.evaluate import evaluate_rules
from services.alerts.incidents import find_incidents
from services.alerts.rules import FIGURE_RULES
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.core.money import MoneyInvalid
from services.costs.figures import collect_figures
from services.costs.month import LIMITS, MonthCosts
from services.costs.store import Cost, list_month_costs, record_cost
from services.ledger.topics import COSTS
from services.shops.shops import FIELDS, ShopInvalid, add_shop, set_shop
from tests.costs.samples import NOW, add_limited_shop, spend


def costs_of(tx: Connection, kind: str, now: datetime = NOW) -> MonthCosts:
    return next(one for one in list_month_costs(tx, now) if one.kind == kind)


def test_a_retry_counts_once_and_a_changed_amount_replaces_the_first(tx: Connection) -> None:
    shop = add_limited_shop(tx)
    assert [spend(tx, shop, amount) for amount in ("1.25", "1.25", "1.30")] == [1, 0, 1]
    assert spend(tx, shop, "0.0042", reference="work 2") == 1

    costs = costs_of(tx, "ai")
    assert costs.micros == {"CAD": 1_304_200}
    assert (costs.spent, costs.counted, costs.month) == ("1.30 CAD", "1.30 CAD", "2026-11")


def test_each_kind_of_cost_has_a_limit() -> None:
    assert LIMITS.keys() == set(COSTS)
    assert set(LIMITS.values()) < set(FIELDS)


def totals(tx: Connection) -> list[tuple[object, ...]]:
    columns = "select shop_id, kind, day::text, source, currency, "
    both = (
        columns + "amount_micros from metered_costs where amount_micros <> 0 order by 1, 2, 3, 4, 5",
        columns + "sum(amount_micros) from cost_references group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5",
    )
    days, references = ([tuple(row) for row in tx.execute(text(one))] for one in both)
    assert days == references
    return days


def test_the_totals_of_days_are_the_sums_of_their_references(tx: Connection) -> None:
    shop = add_limited_shop(tx)
    other = add_limited_shop(tx, "other")
    day = date(2026, 11, 3)
    first = [
        Cost(shop.id, "ai", "openai", "a", "1", "CAD"),
        Cost(shop.id, "ai", "openai", "b", "2", "CAD"),
        Cost(shop.id, "ai", "openai", "b", "3", "CAD"),
        Cost(shop.id, "sms", "twilio", "sms", "4", "CAD", day),
        Cost(other.id, "ai", "openai", "a", "5", "CAD"),
    ]
    record_cost(tx, *first, now=NOW)
    assert [row[-1] for row in totals(tx)] == [4_000_000, 4_000_000, 5_000_000]

    second = [
        Cost(shop.id, "ai", "openai", "a", "1", "USD"),
        Cost(shop.id, "ai", "openai", "c", "7", "CAD"),
        Cost(shop.id, "sms", "twilio", "sms", "0.5", "CAD", day),
        Cost(other.id, "ai", "openai", "a", "5", "CAD"),
    ]
    assert record_cost(tx, *second, now=NOW) == 3
    assert record_cost(tx, *second, now=NOW) == 0
    assert [row[2:] for row in totals(tx)] == [
        ("2026-11-20", "openai", "CAD", 10_000_000),
        ("2026-11-20", "openai", "USD", 1_000_000),
        ("2026-11-03", "twilio", "CAD", 500_000),
        ("2026-11-20", "openai", "CAD", 5_000_000),
    ]
    assert costs_of(tx, "sms").micros == {"CAD": 500_000}


def test_costs_that_are_recorded_at_the_same_time_count_once(engine: Engine) -> None:
    with transaction(engine) as tx:
        shop = add_limited_shop(tx)
    costs = [
        Cost(shop.id, "ai", "openai", str(number % 20), f"{number % 20}.5", "CAD") for number in range(40)
    ]

    def record(number: int) -> None:
        with transaction(engine) as tx:
            record_cost(tx, *(costs if number % 2 else reversed(costs)), now=NOW)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(record, range(12)))
    with transaction(engine) as tx:
        assert [row[-1] for row in totals(tx)] == [sum(range(20)) * 1_000_000 + 20 * 500_000]


def test_a_month_begins_at_midnight_of_the_shop(tx: Connection) -> None:
    shop = add_limited_shop(tx)
    begins = datetime(2026, 12, 1, 8, tzinfo=UTC)  # midnight in Los Angeles
    spend(tx, shop, "40", now=begins - timedelta(seconds=1))
    spend(tx, shop, "2", now=begins)

    assert costs_of(tx, "ai", begins - timedelta(seconds=1)).counted == "40.00 CAD"
    after = costs_of(tx, "ai", begins)
    assert (after.month, after.counted) == ("2026-12", "2.00 CAD")
    assert after.ends_at == datetime(2027, 1, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "month", "begins"),
    [
        ("America/New_York", "2026-11", "2026-11-01T04:00+00:00"),  # the clock changes two hours later
        ("America/New_York", "2026-12", "2026-12-01T05:00+00:00"),
        ("America/Asuncion", "2023-10", "2023-10-01T04:00+00:00"),  # midnight of this day did not exist
        ("Asia/Kathmandu", "2026-11", "2026-10-31T18:15+00:00"),
    ],
)
def test_a_month_begins_at_the_first_moment_of_its_first_day_also_when_the_clock_changes(
    tx: Connection, zone: str, month: str, begins: str
) -> None:
    shop, at = add_limited_shop(tx, timezone=zone), datetime.fromisoformat(begins)
    spend(tx, shop, "50", now=at - timedelta(seconds=1))
    spend(tx, shop, "2", now=at)

    before, after = costs_of(tx, "ai", at - timedelta(seconds=1)), costs_of(tx, "ai", at)
    assert (before.is_at_limit, before.ends_at) == (True, at)
    assert (after.month, after.counted, after.is_at_limit) == (month, "2.00 CAD", False)


def test_another_currency_counts_only_by_a_stated_rate(tx: Connection) -> None:
    shop = add_limited_shop(tx, slug="harbour")
    spend(tx, shop, "10")
    spend(tx, shop, "20", "USD", reference="work 2")

    costs = costs_of(tx, "ai")
    assert (costs.counted, costs.spent) == ("10.00 CAD", "10.00 CAD + 20.00 USD")
    assert (costs.not_converted, costs.percent) == ("20.00 USD", 20.0)
    (figure,) = collect_figures(tx, NOW)["cost_not_converted"]
    assert figure.subject == "ai"

    set_shop(tx, "harbour", {"exchange_rates": "EUR/CAD=1.6, USD/CAD=1.4"}, now=NOW)
    assert (costs_of(tx, "ai").counted, costs_of(tx, "ai").not_converted) == ("38.00 CAD", "")
    assert collect_figures(tx, NOW)["cost_not_converted"] == []


@pytest.mark.parametrize(
    ("rule", "kind", "below", "beyond"),
    [("ai_at_cap", "ai", "49.99", "50.00"), ("sms_over_budget", "sms", "30.00", "30.01")],
)
def test_a_limit_opens_one_incident_and_the_next_month_resolves_it(
    tx: Connection, rule: str, kind: str, below: str, beyond: str
) -> None:
    shop = add_limited_shop(tx)
    add_limited_shop(tx, "other")
    spend(tx, shop, below, kind=kind)
    assert evaluate_rules(tx, collect_figures(tx, NOW), NOW) == []

    spend(tx, shop, beyond, kind=kind)
    (opened,) = evaluate_rules(tx, collect_figures(tx, NOW), NOW + timedelta(minutes=1))
    assert (opened.change, opened.key.rule, opened.key.shop_id) == (Change.OPENED, rule, shop.id)
    assert beyond in find_incidents(tx, rule=rule)[0].summary

    later = datetime(2026, 12, 1, 8, tzinfo=UTC)
    assert evaluate_rules(tx, collect_figures(tx, later), later) == []
    later += FIGURE_RULES[rule].clears
    (recovered,) = evaluate_rules(tx, collect_figures(tx, later), later)
    assert (recovered.change, recovered.key.rule) == (Change.RECOVERED, rule)
    assert find_incidents(tx, rule=rule) == []


@pytest.mark.parametrize("raised", ["50.01 CAD", "", "60 USD"])
def test_a_raised_cap_ends_the_incident(tx: Connection, raised: str) -> None:
    shop = add_limited_shop(tx)
    spend(tx, shop, "50")
    evaluate_rules(tx, collect_figures(tx, NOW), NOW)

    set_shop(tx, "harbour", {"ai_cap": raised}, now=NOW)
    evaluate_rules(tx, collect_figures(tx, NOW), NOW + timedelta(minutes=1))
    later = NOW + timedelta(minutes=1) + FIGURE_RULES["ai_at_cap"].clears
    changes = evaluate_rules(tx, collect_figures(tx, later), later)
    assert (Change.RECOVERED, "ai_at_cap") in [(one.change, one.key.rule) for one in changes]


def test_wrong_costs_are_refused(tx: Connection) -> None:
    shop = add_limited_shop(tx)
    with pytest.raises(InputInvalid, match="kind='gas'"):
        spend(tx, shop, "1", kind="gas")
    with pytest.raises(InputInvalid, match="currency='usd'"):
        spend(tx, shop, "1", "usd")
    with pytest.raises(MoneyInvalid, match="'1,50'"):
        spend(tx, shop, "1,50")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ai_cap", "50"),
        ("ai_cap", "0 CAD"),
        ("sms_budget", "-5 CAD"),
        ("sms_budget", "50 cad"),
        ("ai_cap", "50.001 CAD"),
        ("exchange_rates", "USD=1.37"),
        ("exchange_rates", "USD/USD=1"),
        ("exchange_rates", "USD/CAD=0"),
        ("exchange_rates", "USD/XXQ=1.2"),
    ],
)
def test_wrong_limits_are_refused(tx: Connection, field: str, value: str) -> None:
    add_limited_shop(tx)
    with pytest.raises(ShopInvalid, match=f"{field}={value!r} should be"):
        set_shop(tx, "harbour", {field: value}, now=NOW)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("50.00 CAX", "CAX is no currency of ISO 4217; did you mean 'CAD'"),
        ("0.00 CAD", "zero is refused, and '' is no limit"),
        ("0 JPY", "zero is refused, and '' is no limit"),
    ],
)
def test_a_refused_limit_says_why(tx: Connection, value: str, why: str) -> None:
    add_limited_shop(tx)
    for field in LIMITS.values():
        with pytest.raises(ShopInvalid, match=f"should be.*{why}"):
            set_shop(tx, "harbour", {field: value}, now=NOW)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"exchange_rates": "USD/EUR=0.9"},
            "USD/EUR should be into a currency of the shop's limits, which are in CAD",
        ),
        (
            {"exchange_rates": "EUR/CAD=1.6,CAD/USD=0.7,USD/EUR=0.9", "ai_cap": "50 USD"},
            "USD/EUR should be into a currency of the shop's limits, which are in CAD and USD",
        ),
        ({"exchange_rates": "USD/CAD=1.4", "ai_cap": "", "sms_budget": ""}, "set it too, with --ai-cap"),
    ],
    ids=["one currency", "two currencies", "no limit"],
)
def test_a_rate_into_a_currency_that_no_limit_has_is_refused(
    tx: Connection, fields: dict[str, str], message: str
) -> None:
    add_limited_shop(tx)
    with pytest.raises(ShopInvalid, match=message):
        set_shop(tx, "harbour", fields, now=NOW)
    with pytest.raises(ShopInvalid, match=message):
        limits = {"ai_cap": "50.00 CAD", "sms_budget": "20.00 CAD"}
        add_shop(tx, slug="new", name="N", timezone="UTC", currency="CAD", now=NOW, **limits | fields)


def test_a_limit_and_the_rate_into_its_currency_are_set_together(tx: Connection) -> None:
    add_limited_shop(tx)
    fields = {"ai_cap": "40.00 EUR", "sms_budget": "", "exchange_rates": "USD/EUR=0.9"}

    assert set_shop(tx, "harbour", fields, now=NOW).exchange_rates == "USD/EUR=0.9"
    assert set_shop(tx, "harbour", {"exchange_rates": ""}, now=NOW).exchange_rates == ""


def test_a_day_of_the_service_is_kept(tx: Connection) -> None:
    shop = add_limited_shop(tx)
    spend(tx, shop, "1", kind="sms", day=date(2026, 10, 31))
    spend(tx, shop, "2", kind="sms", day=date(2026, 11, 1))

    assert costs_of(tx, "sms").counted == "2.00 CAD"
    (october,) = [
        one
        for one in list_month_costs(tx, NOW, shop_id=shop.id, month=date(2026, 10, 1))
        if one.kind == "sms"
    ]
    assert (october.counted, october.month) == ("1.00 CAD", "2026-10")
