"""A credential that a provider refuses marks the connection, and the next call that works clears it."""

import ast
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import cast

import orjson
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from beat_schedule import JOBS
from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.runs import start_run
from services.ledger.accept import record_work
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS, HandlerMode
from services.ledger.work import ExternalHandler, Handler, NewWork
from services.payments.handler import PAYOUT
from services.sandbox.payloads.catalogue import make_shopify_body
from services.shops.shops import get_shop_by_id
from tests.jobs.job_rows import add_jobs, runs
from tests.ledger_rows import accept, new_event
from tests.shopify.backfill.fake_shop import DOMAIN, STRIPE_KEY, Shops, control

ROOT = Path(__file__).parents[3]
SENDS = {
    "shopify": {"services.providers.shopify_admin", "services.providers.shopify_oauth"},
    "stripe": {"services.providers.stripe_api"},
}
STATES = "select provider, status, code, resource from connections order by provider"
REFUSAL = {"shopify": ("shopify.token_refused", 403), "stripe": ("stripe.key_refused", 401)}


def plan_push(shops: Shops) -> None:
    with transaction(shops.engine) as tx:
        tx.execute(
            text(
                "insert into inventory_levels (shop_id, inventory_item_id, location_id, sku, available,"
                " observed_available, observed_at, changed_at, shopify_available, counted_available,"
                " counted_at)"
                " values (:shop, 11, 22, 'MUG', 5, 9, now(), now(), 9, 5, now())"
            ),
            {"shop": shops.holed},
        )
        tx.execute(text("update shop_config set stock_owner = 'shopfleet'"))
        record_work(tx, [NewWork(shop_id=shops.holed, topic="inventory_push", key="11:22")], utc_now())


def plan_fetch(shops: Shops) -> None:
    new = NewWork(shop_id=shops.holed, topic="event_fetch", key="po_1", payload={PAYOUT: "po_1"})
    with transaction(shops.engine) as tx:
        record_work(tx, [new], utc_now())


def plan_run(name: str) -> Callable[[Shops], None]:
    def plan(shops: Shops) -> None:
        job = next(job for job in JOBS if job.name == name)
        add_jobs(shops.engine, utc_now(), job)
        with transaction(shops.engine) as tx:
            shop = get_shop_by_id(tx, shops.holed)
            start_run(tx, job, shop, None, origin="cli", by="ada", now=utc_now())

    return plan


def plan_event(topic: str) -> Callable[[Shops], None]:
    bodies = {"app/uninstalled": make_shopify_body("shop/update", shop_id=9, domain=DOMAIN, at=utc_now()),
              "shop/redact": {"shop_id": 9, "shop_domain": DOMAIN}}  # fmt: skip

    def plan(shops: Shops) -> None:
        body = orjson.dumps(bodies[topic])
        accept(shops.engine, new_event(1, shop_id=shops.holed, topic=topic, body=body, received_at=utc_now()))

    return plan


ROADS: dict[str, tuple[Callable[[Shops], None], set[str]]] = {
    "inventory_push": (plan_push, {"shopify"}),
    "subscription_watch": (plan_run("subscription-watchdog"), {"shopify"}),
    "gap_heal": (plan_run("gap-healing"), {"shopify", "stripe"}),
    "reconcile": (plan_run("daily-reconciliation"), {"stripe"}),
    "event_fetch": (plan_fetch, {"stripe"}),
    "uninstall_confirm": (plan_event("app/uninstalled"), {"shopify"}),
    "privacy_redact": (plan_event("shop/redact"), {"shopify"}),
}
"""Every topic that calls a provider: function that plans its work, and the provider."""
CALLS = [(topic, provider) for topic, (_, providers) in ROADS.items() for provider in sorted(providers)]


def effects() -> Mapping[str, Handler]:
    """Return the effect of each topic."""
    from tasks.handlers import HANDLERS

    return HANDLERS


def refuse(shops: Shops, provider: str, status: int, count: int = 1) -> None:
    """Refuse the next ``count`` calls of the shop with ``status``."""
    whose = {"shop": DOMAIN} if provider == "shopify" else {"stripe_key": STRIPE_KEY}
    control(shops.url, **whose, fail_next={"status": status, "count": count})


def serve(shops: Shops, topic: str) -> None:
    effect = cast("ExternalHandler", effects()[topic])
    ExternalRunner(shops.engine, "tests", Random(1)).run_batch(TOPICS[topic], effect)


def again(shops: Shops) -> None:
    with transaction(shops.engine) as tx:
        tx.execute(text("update work_queue set status = 'pending', finished_at = null"))


def state_of(shops: Shops, provider: str) -> list[tuple[object, ...]]:
    return [row[1:] for row in runs(shops.engine, STATES) if row[0] == provider]


@pytest.mark.parametrize(("topic", "provider"), CALLS)
def test_every_topic_reports_a_refusal_and_the_call_that_works_again(
    shops: Shops, topic: str, provider: str
) -> None:
    code, status = REFUSAL[provider]
    ROADS[topic][0](shops)
    refuse(shops, provider, status)
    serve(shops, topic)
    assert state_of(shops, provider) == [("broken", code, "")]

    again(shops)
    serve(shops, topic)
    assert state_of(shops, provider) == [("ok", "", "")]
    audited = runs(
        shops.engine,
        "select action, shop_id from audit_events where action like 'connection.%' order by id",
    )
    assert audited == [("connection.broken", shops.holed), ("connection.mended", shops.holed)]


def test_a_provider_that_works_is_not_marked_by_another_that_refuses(shops: Shops) -> None:
    plan_run("gap-healing")(shops)
    refuse(shops, "stripe", 401)
    serve(shops, "gap_heal")
    assert state_of(shops, "shopify") == [("ok", "", "")]
    assert state_of(shops, "stripe") == [("broken", "stripe.key_refused", "")]


def test_nothing_is_written_while_nothing_changes(shops: Shops) -> None:
    """``xmin`` and ``xmax`` name the transactions that wrote or locked a row."""
    version = "select provider, xmin::text, xmax::text from connections"
    plan_fetch(shops)
    written = []
    for refusals in (0, 2):
        refuse(shops, "stripe", 401, count=refusals)
        again(shops)
        serve(shops, "event_fetch")
        written.append(runs(shops.engine, version))
        again(shops)
        serve(shops, "event_fetch")
        assert runs(shops.engine, version) == written[-1]
    assert written[0] != written[1]


def test_a_missing_permission_is_cleared_only_by_what_was_refused(shops: Shops) -> None:
    plan_fetch(shops)
    refuse(shops, "stripe", 403)
    serve(shops, "event_fetch")
    missing = [("broken", "stripe.key_refused", "balance_transactions")]
    assert state_of(shops, "stripe") == missing

    plan_run("gap-healing")(shops)
    serve(shops, "gap_heal")  # reads events and charges
    assert state_of(shops, "stripe") == missing

    again(shops)
    serve(shops, "event_fetch")
    assert state_of(shops, "stripe") == [("ok", "", "")]


def test_a_scope_that_the_app_may_lack_is_no_fault_of_the_connection(shops: Shops) -> None:
    control(shops.url, shop=DOMAIN, denied_fields=["fulfillmentOrders"])
    plan_run("gap-healing")(shops)
    serve(shops, "gap_heal")
    assert state_of(shops, "shopify") == [("ok", "", "")]


def test_outage_leaves_the_credential_as_it_is(shops: Shops) -> None:
    plan_fetch(shops)
    refuse(shops, "stripe", 503)
    serve(shops, "event_fetch")
    assert state_of(shops, "stripe") == []


def test_the_commands_report_as_the_jobs_do(shops: Shops) -> None:
    refuse(shops, "shopify", 403)
    refuse(shops, "stripe", 401)
    assert CliRunner().invoke(main, ["backfill", "run", "--shop", "holed"]).exit_code == 1
    assert {state[1] for state in runs(shops.engine, STATES)} == {"broken"}

    assert CliRunner().invoke(main, ["backfill", "run", "--shop", "holed"]).exit_code == 0
    assert {state[1] for state in runs(shops.engine, STATES)} == {"ok"}

    refuse(shops, "shopify", 403)
    assert CliRunner().invoke(main, ["shopify", "subscriptions", "--shop", "holed"]).exit_code == 1
    assert state_of(shops, "shopify") == [("broken", "shopify.token_refused", "")]


def test_a_state_lasts_since_its_first_refusal(shops: Shops) -> None:
    plan_fetch(shops)
    refuse(shops, "stripe", 401, count=2)
    serve(shops, "event_fetch")
    with transaction(shops.engine) as tx:
        tx.execute(text("update connections set since = since - :h"), {"h": timedelta(hours=1)})
    since = runs(shops.engine, "select since from connections")
    again(shops)
    serve(shops, "event_fetch")
    assert runs(shops.engine, "select since from connections") == since


def test_every_topic_that_can_reach_a_provider_is_in_the_table_above(environment: dict[str, str]) -> None:
    reached = {}
    for topic, effect in effects().items():
        work = getattr(effect, "_work", effect)
        modules = reach(work.__module__ if hasattr(work, "__name__") else type(work).__module__)
        providers = {provider for provider, senders in SENDS.items() if senders & modules}
        if providers:
            assert TOPICS[topic].mode is HandlerMode.EXTERNAL, f"{topic} calls {providers} in a transaction"
            reached[topic] = providers
    assert reached == {topic: providers for topic, (_, providers) in ROADS.items()}


def test_calls_are_made_in_one_place_that_collects_their_outcomes() -> None:
    makers = [
        (path.name, function.name)
        for path in [*(ROOT / "services").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]
        if "act(" in (code := path.read_text())
        for function in ast.walk(ast.parse(code))
        for node in (ast.walk(function) if isinstance(function, ast.FunctionDef) else ())
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "act"
    ]
    assert set(makers) == {("call_results.py", "_make_call")}


WITHOUT_CONNECTION = {
    "http": "mail notes its own connections, see services/mail/delivery_log.py",
    "graph_mail": "the same",
    "sendgrid": "the same",
    "resend": "the same",
    "posthog": "the fleet's own setting, no shop's credential",
    "sentry_envelopes": "the same",
    "oauth": "a refresh is recorded where its tokens are stored, see services/shops/tokens.py",
}


def test_every_provider_called_over_http_reports_its_calls() -> None:
    senders = {
        path.stem: path.read_text()
        for path in (ROOT / "services" / "providers").glob("*.py")
        if any(name in {"httpx", "stripe"} for name in imported(path))
    }
    silent = {name for name, source in senders.items() if "noted_call(" not in source and "post(" in source}
    assert silent - set(WITHOUT_CONNECTION) == set()
    assert {"shopify_admin", "stripe_api"} <= {n for n, source in senders.items() if "noted_call(" in source}


def reach(module: str) -> set[str]:
    """Return every project module that ``module`` imports, also in functions and indirectly."""
    seen: set[str] = set()
    left = [module]
    while left:
        name = left.pop()
        path = ROOT / f"{name.replace('.', '/')}.py"
        if name in seen or not path.exists():
            continue
        seen.add(name)
        left += [found for found in imported(path) if found.startswith("services")]
    return seen


@cache
def imported(path: Path) -> list[str]:
    """Return the modules that a file imports, except for types."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found: list[str] = []
    for node in (one for one in ast.walk(tree) if id(one) not in typing_only):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
    return found
