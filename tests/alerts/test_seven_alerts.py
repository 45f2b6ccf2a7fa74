"""The seven alerts that operators want: each cause ends in its incident, its message and its consequence."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from services.alerts.channels import AlertSendHandler
from services.alerts.evaluate import check_rules
from services.alerts.gate import read_gate
from services.alerts.incidents import find_incidents
from services.alerts.notify import record_alerts
from services.audit.append import Mutation, append_change
from services.audit.verify import ChainAltered
from services.core.db import transaction
from services.costs.cap import apply_ai_caps
from services.costs.store import Cost, record_cost
from services.ingress.request_stats import RequestStats
from services.jobs.audit_jobs import verify_chains
from services.jobs.conditions import record_overdue
from services.jobs.definition import Covers
from services.jobs.handler import JobRun
from services.ledger.pause import list_pauses
from services.shops.shops import set_shop
from tasks.collectors import COLLECTORS
from tests.fakes.settings import settings_of
from tests.fakes.web import Web
from tests.jobs.job_rows import add_jobs, add_shops, make_job, run_tick, runs
from tests.jobs.work import make_due, serve

NOW = datetime(2026, 11, 28, 7, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass
class Watch:
    """One shop, and a Slack that stores the messages."""

    engine: Engine
    web: Web
    now: datetime = NOW

    def pass_minutes(self, count: int, each: Callable[[], object] = lambda: None) -> None:
        """Let time pass; after each minute do ``each``, then all that beat does."""
        for _ in range(count):
            each()
            self.now += MINUTE
            with transaction(self.engine) as tx:  # the console's own statements
                insert = "insert into statement_stats values (:at, 'console', 'select 1', 1, 1, '{1}')"
                tx.execute(text(insert), {"at": self.now.replace(second=0)})
            for act in (record_overdue, apply_ai_caps, self._check, record_alerts):
                with transaction(self.engine) as tx:
                    act(tx, self.now)
            make_due(self.engine, ["alert_send"])
            serve(self.engine, "alert_send", AlertSendHandler())

    def _check(self, tx: object, now: datetime) -> None:
        check_rules(tx, COLLECTORS, now)  # type: ignore[arg-type]

    @property
    def open_rules(self) -> list[tuple[str, str]]:
        with transaction(self.engine) as tx:
            return [(one.severity, one.rule) for one in find_incidents(tx)]

    def messages(self, rule: str) -> list[str]:
        """Return the change in the head of each message about ``rule``."""
        texts = [request.json["text"] for request in self.web.requests]
        return [one.partition("*:")[0].strip("*") for one in texts if f"`{rule}`" in one.partition("\n")[0]]


@pytest.fixture
def watch(engine: Engine) -> Iterator[Watch]:
    add_shops(engine, NOW - timedelta(days=1), acme="UTC")
    with transaction(engine) as tx:
        tx.execute(text("insert into shop_config (shop_id, owner_email) values (1, 'owner@acme.example')"))
    with Web() as web, settings_of(SLACK_WEBHOOK_URL=f"{web.url}/x", ALLOW_PRIVATE_URLS="1"):
        yield Watch(engine, web)


def test_more_than_one_percent_of_5xx_for_ten_minutes(watch: Watch) -> None:
    stats = RequestStats(watch.engine)

    def receive(failed: int) -> None:
        for status, count in ((200, 100 - failed), (503, failed)):
            for _ in range(count):
                outcome = "accepted" if status == 200 else "unavailable"
                stats.count(watch.now, "acme", "shopify", outcome, "/webhooks/shopify/<shop>", status, 5.0)
        stats.flush()

    watch.pass_minutes(12, lambda: receive(1))
    assert watch.open_rules == []
    watch.pass_minutes(9, lambda: receive(2))
    assert watch.open_rules == []

    watch.pass_minutes(9, lambda: receive(2))
    ((severity, rule),) = watch.open_rules
    assert (severity, rule.partition(":")[0]) == ("P2", "requests_failed")
    watch.pass_minutes(16, lambda: receive(0))
    assert watch.open_rules == []
    assert watch.messages("requests_failed") == ["P2 opened", "P2 recovered"]


def test_three_stripe_signature_failures_in_an_hour(watch: Watch) -> None:
    stats = RequestStats(watch.engine)

    def forge() -> None:
        stats.count(watch.now, "acme", "stripe", "invalid_signature", "/webhooks/stripe/<shop>", 401, 1.0)
        stats.flush()

    watch.pass_minutes(2, forge)
    assert watch.open_rules == []
    watch.pass_minutes(1, forge)
    assert watch.open_rules == [("P2", "signature_failures:stripe")]
    watch.now += timedelta(minutes=60)
    watch.pass_minutes(11)
    assert watch.open_rules == []
    assert watch.messages("signature_failures") == ["P2 opened", "P2 recovered"]


def test_statements_slower_than_200_ms_for_ten_minutes(watch: Watch) -> None:
    def measure(bucket: int) -> None:
        latency = [0] * 14
        latency[bucket] = 50
        with transaction(watch.engine) as tx:
            tx.execute(
                text(
                    "insert into statement_stats values (:at, 'ingress', 'select orders a1', 50, 1, :counts)"
                ),
                {"at": watch.now.replace(second=0), "counts": latency},
            )

    watch.pass_minutes(12, lambda: measure(7))
    assert watch.open_rules == []
    watch.pass_minutes(16, lambda: measure(8))
    assert watch.open_rules == [("P2", "database_slow")]
    assert "select orders a1" in watch.web.requests[0].json["text"]
    watch.pass_minutes(22, lambda: measure(2))
    assert watch.open_rules == []
    assert watch.messages("database_slow") == ["P2 opened", "P2 recovered"]


def test_an_altered_audit_chain_is_a_p1_and_closes_the_deploy_gate(
    watch: Watch, owner_engine: Engine
) -> None:
    with transaction(watch.engine) as tx:
        append_change(tx, "shop.set", {1: [Mutation("shops", "1", "renamed")]}, by="ada", now=NOW)
        assert read_gate(tx, NOW).reasons == []
    with owner_engine.begin() as tx:
        tx.execute(text("update audit_events set staff_label = 'nobody'"))
    run = JobRun(id=1, job="audit-verify", shop_id=None, period="2026-11-28", covers=Covers.DAY,
                 zone="UTC", request_id="r", work_id=1)  # fmt: skip
    with pytest.raises(ChainAltered):
        verify_chains(run)

    assert watch.open_rules == [("P1", "audit_chain_failed")]
    watch.pass_minutes(31)
    assert watch.messages("audit_chain_failed") == ["P1 opened", "P1 still open"]
    with transaction(watch.engine) as tx:
        assert [one.code for one in read_gate(tx, watch.now).reasons] == ["audit_chain_broken"]


def spend(watch: Watch, kind: str, amount: str) -> None:
    with transaction(watch.engine) as tx:
        record_cost(tx, Cost(1, kind, "twilio", f"{watch.now}", amount, "CAD"), now=watch.now)


def test_sms_costs_over_150_percent_of_the_budget(watch: Watch) -> None:
    with transaction(watch.engine) as tx:
        set_shop(tx, "acme", {"sms_budget": "100.00 CAD"}, now=NOW)
    spend(watch, "sms", "150.00")
    watch.pass_minutes(1)
    assert watch.open_rules == []

    spend(watch, "sms", "0.01")
    watch.pass_minutes(1)
    assert watch.open_rules == [("P2", "sms_over_budget")]
    assert watch.messages("sms_over_budget") == ["P2 opened"]


def test_ai_costs_at_the_cap_pause_the_ai_work_and_the_owner_gets_one_mail(watch: Watch) -> None:
    with transaction(watch.engine) as tx:
        set_shop(tx, "acme", {"ai_cap": "50.00 CAD"}, now=NOW)
    spend(watch, "ai", "49.99")
    watch.pass_minutes(1)
    assert watch.open_rules == []

    spend(watch, "ai", "0.01")
    watch.pass_minutes(2)
    assert watch.open_rules == [("P2", "ai_at_cap")]
    assert watch.messages("ai_at_cap") == ["P2 opened"]
    with transaction(watch.engine) as tx:
        assert [str(one.scope) for one in list_pauses(tx)] == ["cost ai, shop 1"]
    assert runs(watch.engine, "select kind, recipient from mail_outbox") == [("ai_cap", "owner@acme.example")]


def test_a_job_that_has_not_started_30_minutes_after_its_time(watch: Watch) -> None:
    add_jobs(watch.engine, NOW - timedelta(days=1), make_job(schedule="0 7 * * *", grace=timedelta(hours=2)))
    assert run_tick(watch.engine, NOW) == 1
    watch.pass_minutes(30)
    assert watch.open_rules == []

    watch.pass_minutes(1)
    assert watch.open_rules == [("P2", "cron_did_not_run:daily-reconciliation")]
    assert watch.messages("cron_did_not_run") == ["P2 opened"]
