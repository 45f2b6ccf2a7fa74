"""Repair of a day: lost events, dead work and missing objects are processed like webhooks."""

import random
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.audit.append import append_all
from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import RetryLater
from services.core.settings import get_settings
from services.jobs.definition import Covers
from services.jobs.handler import JobRun
from services.jobs.schedule import day_bounds
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.payments.break_repair import count_unfinished_work, plan_repair, repair_day
from services.payments.breaks import PaymentBreak, list_day_breaks
from services.payments.handler import ingest_transactions
from services.payments.reconcile import reconcile_day
from services.shops.secrets import record_secret
from services.shops.shops import get_shop_by_id
from tests.alerts.linked import LINK, list_actions
from tests.fakes.stripe import Failure, StripeApi
from tests.payments.day_rows import NOW
from tests.shopify.sample_payloads import add_shop, rows

KEY = "rk_test_1"


def found(cause: str, **more: Any) -> PaymentBreak:
    side = {"amount_cents": 1000, "currency": "CAD", "status": "paid"}
    base = PaymentBreak("missing_here", "charge", "ch_1", None, side, NOW, None, True, cause, "", {}, False)
    return base._replace(**more)


def test_plan_names_each_thing_once_and_leaves_the_rest_to_a_person() -> None:
    lost = {"lost_events": ["evt_1", "evt_2"]}
    left = [found("never_at_stripe", theirs=None), found("paid_twice"), found("in_queue")]

    plan = plan_repair(
        [
            found("lost_webhook", evidence=lost),
            found("lost_webhook", kind="amount", evidence=lost),
            found("too_old_for_events", provider_id="re_1", subject="refund"),
            found("dead_work", evidence={"work_ids": [7, 8]}),
            *left,
        ]
    )

    assert plan.events == ("evt_1", "evt_2")
    assert plan.work_ids == (7, 8)
    assert plan.objects == (("charge", "ch_1"), ("refund", "re_1"))
    assert plan.left == tuple(left)


def charge(name: str, at: datetime, amount: int = 1000) -> dict[str, Any]:
    return {
        "id": name,
        "object": "charge",
        "amount": amount,
        "amount_captured": amount,
        "amount_refunded": 0,
        "captured": True,
        "paid": True,
        "refunded": False,
        "currency": "cad",
        "status": "succeeded",
        "created": int(at.timestamp()),
        "payment_intent": None,
        "metadata": {},
    }


def event_of(source: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "event",
        "type": "charge.succeeded",
        "created": source["created"],
        "livemode": False,
        "data": {"object": source},
    }


@pytest.fixture
def stripe(monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeApi]:
    with StripeApi(KEY) as api:
        api.lists = {kind: [] for kind in ("charges", "refunds", "disputes", "payouts", "events")}
        api.lists["balance_transactions"] = []
        monkeypatch.setenv("STRIPE_API_BASE", api.url)
        get_settings.cache_clear()
        yield api
    get_settings.cache_clear()


@pytest.fixture
def shop(engine: Engine, stripe: StripeApi) -> Engine:
    """A shop whose yesterday lacks an event, has a charge without an event, and one dead work item."""
    with transaction(engine) as tx:
        record_secret(tx, add_shop(engine), "stripe-key", KEY, utc_now())
    begins, _ = day_bounds(shop_zone(engine), yesterday(engine))
    for number in (1, 2, 3):
        stripe.lists["charges"].append(charge(f"ch_{number}", begins + timedelta(hours=number)))
        stripe.objects[f"/v1/charges/ch_{number}"] = stripe.lists["charges"][-1]
    lost, silent, dead = stripe.lists["charges"]
    assert silent["id"] == "ch_2"
    for source, name in ((lost, "evt_1"), (dead, "evt_3")):
        stripe.lists["events"].append(event_of(source, name))
    stripe.objects["/v1/events/evt_1"] = stripe.lists["events"][0]
    receive_dead(engine, stripe.lists["events"][1])
    return engine


def receive_dead(engine: Engine, body: dict[str, Any]) -> None:
    from tests.payments.test_break_causes import receive, settle

    settle(engine, receive(engine, body), "dead")


def shop_zone(engine: Engine) -> Any:
    with transaction(engine) as tx:
        return get_shop_by_id(tx, 1).zone


def yesterday(engine: Engine) -> Any:
    return (utc_now().astimezone(shop_zone(engine)) - timedelta(days=1)).date()


def reconcile(engine: Engine) -> dict[str, str]:
    """Reconcile the day; return the cause of each open break."""
    day = yesterday(engine)
    run = JobRun(
        id=1,
        job="daily-reconciliation",
        shop_id=1,
        period=day.isoformat(),
        covers=Covers.DAY,
        zone=shop_zone(engine),
        request_id="req-1",
        work_id=1,
    )
    outcome = reconcile_day(run)
    with transaction(engine) as tx:
        append_all(tx, outcome.record(tx).audit if outcome.record else [], utc_now())
        return {each.provider_id: each.cause for each in list_day_breaks(tx, 1, day)}


def work_off(engine: Engine) -> None:
    TransactionalRunner(engine, "tests", random.Random(1)).run_batch(
        TOPICS["transaction_ingest"], ingest_transactions
    )


def heal(engine: Engine, stripe: StripeApi) -> Any:
    with transaction(engine) as tx:
        plan = plan_repair(list_day_breaks(tx, 1, yesterday(engine)))
    return repair_day(1, plan, KEY, stripe.url, by="ada", reason="a lost hour", request_id="req-2")


def test_repair_closes_the_explained_breaks_at_the_next_run(shop: Engine, stripe: StripeApi) -> None:
    assert reconcile(shop) == {"ch_1": "lost_webhook", "ch_2": "unknown", "ch_3": "dead_work"}

    healed = heal(shop, stripe)
    assert (healed.recorded, healed.requeued, healed.gone) == (2, 1, [])
    with transaction(shop) as tx:
        assert count_unfinished_work(tx, healed.work, utc_now()) == (3, {"pending": 3})
    work_off(shop)
    with transaction(shop) as tx:
        assert count_unfinished_work(tx, healed.work, utc_now()) == (0, {"done": 3})

    assert reconcile(shop) == {}
    assert rows(shop, "select count(*) from reconciliation_breaks where closed_at is null") == [(0,)]
    assert rows(shop, "select status from incidents") == [("resolved",)]
    summaries = [
        summary for (summary,) in rows(shop, "select summary from audit_mutations order by event_id, place")
    ]
    assert "charge.succeeded entered from Stripe: evt_1: a lost hour" in summaries


def test_second_repair_records_nothing_twice(shop: Engine, stripe: StripeApi) -> None:
    reconcile(shop)
    heal(shop, stripe)

    again = heal(shop, stripe)

    assert (again.recorded, again.requeued) == (0, 0)
    assert rows(shop, "select sum(duplicate_count) from inbound_events") == [(0,)]


def test_event_missing_at_stripe_is_reported_and_its_object_is_recorded(
    shop: Engine, stripe: StripeApi
) -> None:
    reconcile(shop)
    del stripe.objects["/v1/events/evt_1"]

    healed = heal(shop, stripe)

    assert healed.gone == ["evt_1"]
    work_off(shop)
    assert reconcile(shop) == {}


def test_failure_of_stripe_keeps_the_recorded_objects(shop: Engine, stripe: StripeApi) -> None:
    reconcile(shop)
    limited: Failure = (
        429,
        {},
        {"error": {"type": "rate_limit_error", "code": "rate_limit", "message": "slow down"}},
    )
    stripe.before = lambda path: stripe.failures.append(limited) if path == "/v1/charges/ch_1" else None

    with pytest.raises(RetryLater):
        heal(shop, stripe)

    assert rows(shop, "select delivery_key from inbound_events order by id") == [("evt_3",), ("evt_1",)]


def fleet(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["payments", *arguments])


def test_commands_show_heal_and_follow(shop: Engine, stripe: StripeApi) -> None:
    reconcile(shop)
    day = yesterday(shop).isoformat()
    with transaction(shop) as tx:
        tx.exec_driver_sql(
            "insert into job_runs (job, shop_id, period, due_at, status, origin)"
            " values ('daily-reconciliation', 1, %s, now(), 'done', 'beat')",
            (day,),
        )

    shown = fleet("breaks", "--shop", "harbour", "--day", day)
    assert shown.exit_code == 0, shown.output
    for arguments in ("ch_1", "lost_webhook", "evt_1", "10.00 CAD paid", "fleet payments repair"):
        assert arguments in shown.output
    planned = fleet("repair", "--shop", "harbour", "--day", day, "--dry-run")
    assert "would fetch 1 lost event: evt_1" in planned.output
    assert rows(shop, "select count(*) from inbound_events") == [(1,)]

    healed = fleet("repair", "--shop", "harbour", "--day", day, "--no-wait", *LINK)
    assert list_actions(shop) == [("ada", f"repairs payments of {day} at harbour")]
    assert healed.exit_code == 0, healed.output
    assert "2 events entered, 1 item of work requeued" in healed.output
    assert f"fleet jobs run daily-reconciliation --shop harbour --period {day} --again" in healed.output
    work_off(shop)
    reconcile(shop)

    assert fleet("breaks", "--shop", "harbour", "--day", day).output == f"No breaks of {day}.\n"
    assert fleet("breaks", "--shop", "harbour", "--day", day, "--all").output.count("(closed)") == 3
    trail = fleet("trace", "ch_1", "--shop", "harbour", "--json")
    assert '"what": "charge"' in trail.output
    assert fleet("trace", "ch_nowhere", "--shop", "harbour").exit_code == 2


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_repair_without_breaks_says_why_and_names_no_rerun(shop: Engine, more: tuple[str, ...]) -> None:
    day = yesterday(shop).isoformat()
    not_compared = fleet("repair", "--shop", "harbour", "--day", day, *more)
    with transaction(shop) as tx:
        tx.exec_driver_sql(
            "insert into job_runs (job, shop_id, period, due_at, status, origin)"
            " values ('daily-reconciliation', 1, %s, now(), 'done', 'beat')",
            (day,),
        )
    compared = fleet("repair", "--shop", "harbour", "--day", day, *more)

    assert not_compared.exit_code == compared.exit_code == 0
    assert not_compared.output.startswith(f"nothing to repair of {day}: ")
    assert f"fleet jobs run daily-reconciliation --shop harbour --period {day}" in not_compared.output
    assert compared.output == f"nothing to repair of {day}: it has no open breaks\n"


@pytest.mark.parametrize("arguments", [("--day", "20.11.2026"), ("--day", "2026-11-20", "--shop", "nobody")])
def test_wrong_arguments_are_wrong_usage(shop: Engine, arguments: tuple[str, ...]) -> None:
    assert fleet("breaks", "--shop", "harbour", *arguments).exit_code == 2


@pytest.mark.parametrize(
    ("old", "new"), [("breaks", "breaks"), ("heal", "repair"), ("trail", "trace")], ids=lambda name: name
)
def test_old_names_of_the_commands_work_and_are_not_listed(old: str, new: str) -> None:
    def help_of(*arguments: str) -> str:
        return CliRunner().invoke(main, [*arguments, "--help"]).output.partition("\n")[2]

    assert help_of("books", old) == help_of("payments", new)
    assert "  books " not in help_of()
    assert "  heal " not in help_of("payments")
