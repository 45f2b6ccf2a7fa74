"""The commands show costs, limits and the pause; the worker's task makes and ends the pause."""

import json
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.costs.store import Cost, record_cost
from services.ledger.pause import PauseScope, list_pauses
from services.shops.shops import get_shop
from tasks.commands import backlog, pause, resume
from tests.cli.commands import run
from tests.cli.test_celery_commands import run as run_celery
from tests.costs.samples import add_limited_shop


def spend_now(engine: Engine, amount: str, currency: str = "CAD") -> None:
    with transaction(engine) as tx:
        shop = get_shop(tx, "harbour")
        record_cost(tx, Cost(shop.id, "ai", "test", currency, amount, currency), now=utc_now())


def test_the_cap_pauses_and_a_higher_cap_resumes(engine: Engine, broker_url: str) -> None:
    from tasks.ops import drift  # not at the top: pytest looks at it before there are settings

    with transaction(engine) as tx:
        add_limited_shop(tx)
    spend_now(engine, "50.5")
    drift()

    paused = json.loads(run_celery(backlog, "--json").stdout)["pauses"]
    assert [(one["scope"]["cost"], one["mode"], one["created_by"]) for one in paused] == [
        ("ai", "hold", "ai-cap")
    ]
    table = run_celery(backlog).stdout
    assert "cost ai" in table
    assert "50.50 CAD, the cap is 50.00 CAD" in table

    assert run("shops", "set", "harbour", "--ai-cap", "80.00 CAD", "--dry-run").exit_code == 0
    drift()
    with transaction(engine) as tx:
        assert len(list_pauses(tx)) == 1
    changed = run("shops", "set", "harbour", "--ai-cap", "80.00 CAD", "--actor", "ada")
    assert "ai_cap: 50.00 CAD -> 80.00 CAD" in changed.output
    drift()
    with transaction(engine) as tx:
        assert list_pauses(tx) == []


def test_costs_are_shown_by_kind_with_what_does_not_count(engine: Engine) -> None:
    with transaction(engine) as tx:
        add_limited_shop(tx)
        add_limited_shop(tx, "lagoon", ai_cap="", sms_budget="")
    spend_now(engine, "12")
    spend_now(engine, "3", "USD")

    ai, sms = json.loads(run("shops", "costs", "harbour", "--json").stdout)
    assert (ai["counted"], ai["limit"], ai["percent"]) == ("12.00 CAD", "50.00 CAD", 24.0)
    assert (ai["billed_micros"], ai["not_converted"]) == ({"CAD": 12_000_000, "USD": 3_000_000}, "3.00 USD")
    assert (sms["kind"], sms["counted"]) == ("sms", "0.00 CAD")
    assert "12.00 CAD + 3.00 USD" in run("shops", "costs", "harbour").stdout
    assert "No costs and no limits" in run("shops", "costs", "lagoon").stdout
    assert json.loads(run("shops", "costs", "harbour", "--month", "2025-01", "--json").stdout)[0][
        "counted"
    ] == ("0.00 CAD")
    assert run("shops", "costs", "harbour", "--month", "2025").exit_code == 2
    days = json.loads(run("shops", "costs", "harbour", "--by-day", "--json").stdout)
    assert [(one["kind"], one["source"], one["currency"], one["amount_micros"]) for one in days] == [
        ("ai", "test", "CAD", 12_000_000),
        ("ai", "test", "USD", 3_000_000),
    ]
    assert "12.00 CAD" in run("shops", "costs", "harbour", "--by-day").stdout
    assert (
        "No costs in this month" in run("shops", "costs", "harbour", "--by-day", "--month", "2025-01").stdout
    )

    lines = {one["shop"]: one["costs"] for one in json.loads(run("overview", "--json").stdout)}
    assert [one["kind"] for one in lines["harbour"]] == ["ai", "sms"]
    assert lines["lagoon"] == []
    assert "12.00 CAD (24%)" in run("overview").stdout


def test_a_person_pauses_and_resumes_a_cost(engine: Engine, broker_url: str) -> None:
    with transaction(engine) as tx:
        shop = add_limited_shop(tx)
    paused = run_celery(pause, "--cost", "ai", "--shop", "harbour", "-f")
    assert "Paused cost ai, shop harbour (hold): 0 waiting." in paused.output
    with transaction(engine) as tx:
        assert [one.scope for one in list_pauses(tx)] == [PauseScope(cost="ai", shop_id=shop.id)]

    assert (
        "Resumed cost ai, shop harbour"
        in run_celery(resume, "--cost", "ai", "--shop", "harbour", "-f").output
    )
    wrong = run_celery(pause, "--cost", "ai", "--refuse", "-f")
    assert (wrong.exit_code, "should be hold" in wrong.output) == (2, True)
    assert run_celery(pause, "--cost", "gas").exit_code == 2


def test_a_given_rate_leaves_the_others_and_a_removed_one_names_the_costs_that_do_not_count(
    engine: Engine,
) -> None:
    def set_rates(rates: str, *more: str) -> str:
        return run("shops", "set", "harbour", "--exchange-rates", rates, *more).output

    with transaction(engine) as tx:
        add_limited_shop(tx)
    spend_now(engine, "30", "USD")
    set_rates("USD/CAD=1.40")

    assert "exchange_rates: USD/CAD=1.40 -> USD/CAD=1.40, EUR/CAD=1.60" in set_rates("EUR/CAD=1.60")
    assert "do not count" not in set_rates("USD/CAD=1.37,EUR/CAD=")
    with transaction(engine) as tx:
        assert get_shop(tx, "harbour").exchange_rates == "USD/CAD=1.37"
    left = "30.00 USD of the ai costs of"
    for rates in ("USD/CAD=", ""):
        planned = set_rates(rates, "--dry-run")
        assert left in planned and "no rate would be stated" in planned
        refused = run("shops", "set", "harbour", "--exchange-rates", rates)
        assert refused.exit_code == 2
        assert left in refused.output and "add -f to act without a question" in refused.output
        with transaction(engine) as tx:
            assert get_shop(tx, "harbour").exchange_rates == "USD/CAD=1.37"
        removed = set_rates(rates, "--force")
        assert left in removed and "exchange_rates: USD/CAD=1.37 -> -" in removed
        assert left not in set_rates("USD/CAD=1.37")


RECORD = ("shops", "record-cost", "harbour", "--kind", "ai", "--source", "openai")
ONE = ("--amount", "1.25", "--currency", "USD", "--reference", "call-1")


def with_value(words: tuple[str, ...], option: str, value: str) -> list[str]:
    """Return ``words`` with another value of ``option``, if they have it."""
    found = list(words)
    if option in words:
        found[words.index(option) + 1] = value
    return found


def one(option: str, value: str) -> list[str]:
    """Return ``ONE`` with another value of ``option``, or with that option, if ``RECORD`` has it not."""
    more = [] if option in ONE or option in RECORD else [option, value]
    return [*with_value(ONE, option, value), *more]


def test_a_script_records_a_cost_and_a_repeat_of_its_reference_counts_once(engine: Engine) -> None:
    with transaction(engine) as tx:
        add_limited_shop(tx, exchange_rates="USD/CAD=1.40")

    assert "Would record 1.25 USD" in run(*RECORD, *ONE, "--dry-run").output
    month = f"{utc_now().astimezone(ZoneInfo('America/Los_Angeles')):%Y-%m}"
    first = run(*RECORD, *ONE)
    assert first.output == (
        "Recorded 1.25 USD of ai costs of harbour.\n"
        f"Costs of {month}: 1.25 USD, 1.75 CAD of 50.00 CAD count.\n"
    )
    assert "call-1 is recorded with this amount already" in run(*RECORD, *ONE).output
    corrected = json.loads(run(*RECORD, *one("--amount", "2"), "--json").stdout)
    assert (corrected["costs"][0]["billed_micros"], corrected["changed"]) == ({"USD": 2_000_000}, True)
    second = json.loads(run(*RECORD, *one("--reference", "call-2"), "--json").stdout)
    assert second["costs"][0]["billed_micros"] == {"USD": 3_250_000}
    past = json.loads(run(*RECORD, *ONE, "--day", "2026-01-31", "--json").stdout)
    assert past["costs"][0]["billed_micros"] == {"USD": 1_250_000}
    assert past["costs"][0]["month"] == "2026-01"


def test_each_recorded_cost_is_in_the_audit_with_its_actor_source_and_reference(engine: Engine) -> None:
    with transaction(engine) as tx:
        add_limited_shop(tx)
    run(*RECORD, *ONE, "--dry-run")
    for _ in range(2):
        assert run(*RECORD, *ONE, "--as", "ada").exit_code == 0

    entries = json.loads(
        run("audit", "list", "--shop", "harbour", "--table", "metered_costs", "--json").stdout
    )
    assert [(entry["staff_label"], entry["action"]) for entry in entries] == [("ada", "cost.record")]
    assert "recorded 1.25 USD of ai costs: openai call-1" in str(entries)


def test_a_cost_that_cannot_be_recorded_is_refused(engine: Engine) -> None:
    with transaction(engine) as tx:
        add_limited_shop(tx)
    for wrong, message in (
        (("--amount", "much"), "much"),
        (("--amount", "-1.25"), "should be 0 or more"),
        (("--currency", "usd"), "currency='usd' should be three capital letters"),
        (("--kind", "paper"), "paper"),
        (("--day", "2099-12-31"), "in the future"),
        (("--reference", " "), "reference"),
        (("--source", ""), "source"),
    ):
        refused = run(*with_value(RECORD, *wrong), *one(*wrong))
        assert refused.exit_code in (1, 2), wrong
        assert message in refused.output
    assert "No costs" in run("shops", "costs", "harbour", "--by-day").output
