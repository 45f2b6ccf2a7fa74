"""``fleet payments breaks``: a day that was not compared has a reason and exit code 1, never "no breaks"."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from services.cli.payments import command
from services.core.clock import utc_now
from services.core.db import transaction
from services.shops.secrets import record_secret
from services.shops.shops import get_shop
from tests.shopify.sample_payloads import add_shop

DAY = "2026-11-20"


@pytest.fixture
def shop(engine: Engine) -> Engine:
    add_shop(engine)
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shops set created_at = '2026-01-01'")
    return engine


def add_run(engine: Engine, status: str, error: str | None = None, stats: str = '{"breaks": 0}') -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "insert into job_runs (job, shop_id, period, due_at, status, origin, error, stats)"
            " values ('daily-reconciliation', 1, %s, %s, %s, 'schedule', %s, %s)",
            (DAY, datetime(2026, 11, 21, 12, tzinfo=UTC), status, error, stats),
        )


def breaks(*more: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(command, ["breaks", "--shop", "harbour", "--day", DAY, *more])
    return outcome.exit_code, outcome.output


def document() -> tuple[int, dict[str, Any]]:
    code, output = breaks("--json")
    return code, json.loads(output)


def test_a_day_whose_run_is_done_and_found_nothing_has_no_breaks(shop: Engine) -> None:
    add_run(shop, "done")

    assert breaks() == (0, f"No breaks of {DAY}.\n")
    code, shown = document()
    assert (code, shown["compared"], shown["not_compared"]) == (0, True, None)


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        ("pending", None, "its run waits; see `fleet jobs history daily-reconciliation --shop harbour`"),
        ("running", None, "its run has started and not finished; see `fleet jobs history"),
        ("failed", "stripe.key_refused: HTTP 401", "its run failed (stripe.key_refused: HTTP 401);"),
        ("skipped", None, "its run was skipped; correct the cause"),
    ],
)
def test_a_day_whose_run_did_not_end_well_is_not_compared(
    shop: Engine, status: str, error: str | None, reason: str
) -> None:
    add_run(shop, status, error)

    code, output = breaks()

    assert code == 1
    assert f"not compared with Stripe: {reason}" in output
    assert "No breaks" not in output
    code, shown = document()
    assert (code, shown["compared"]) == (1, False)
    assert reason in shown["not_compared"]


def test_a_run_without_stripe_compared_nothing(shop: Engine) -> None:
    add_run(shop, "done", stats='{"breaks": 0, "no_stripe": 1}')

    code, output = breaks()

    assert code == 1
    assert "the shop has no stripe-key" in output
    assert f"then `fleet jobs run daily-reconciliation --shop harbour --period {DAY} --again`" in output


def test_a_day_that_ran_before_the_key_was_recorded_says_so(shop: Engine) -> None:
    add_run(shop, "done", stats='{"breaks": 0, "no_stripe": 1}')
    with transaction(shop) as tx:
        record_secret(tx, get_shop(tx, "harbour").id, "stripe-key", "sk_test_1", utc_now())

    code, output = breaks()

    assert code == 1
    assert "has no stripe-key" not in output
    assert (
        "before the shop's stripe-key was recorded; to compare it `fleet jobs run daily-reconciliation"
        in output
    )


def test_a_day_without_a_run_is_not_compared_and_the_command_that_compares_it_is_named(shop: Engine) -> None:
    code, output = breaks()

    assert code == 1
    assert "no run of daily-reconciliation has taken place for it" in output
    assert f"`fleet jobs run daily-reconciliation --shop harbour --period {DAY}`" in output


def test_a_day_that_is_not_over_has_its_end_and_no_command(shop: Engine) -> None:
    with transaction(shop) as tx:
        today = datetime.now(get_shop(tx, "harbour").zone).date().isoformat()
    output = CliRunner().invoke(command, ["breaks", "--shop", "harbour", "--day", today]).output

    assert "has taken place for it: the day ends " in output
    assert "fleet jobs run" not in output


def test_a_day_before_the_shop_existed_is_not_compared(shop: Engine) -> None:
    with transaction(shop) as tx:
        tx.exec_driver_sql("update shops set created_at = '2026-11-21T18:00:00Z'")

    code, output = breaks()

    assert code == 1
    assert "the shop was added on 2026-11-21, after that day" in output


def test_breaks_of_an_earlier_run_are_shown_with_the_reason(shop: Engine) -> None:
    add_run(shop, "failed", "stripe.unavailable: no answer")
    with transaction(shop) as tx:
        tx.exec_driver_sql(
            "insert into reconciliation_breaks (shop_id, day, kind, provider_id, found_at)"
            " values (1, %s, 'missing_here', 'ch_1', now())",
            (DAY,),
        )

    code, output = breaks()

    assert code == 1
    assert "not compared with Stripe: its run failed" in output
    assert "ch_1" in output
