"""A table that another session has locked delays a tick; the tick ends, and the alerts leave."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from services.alerts import figures
from services.alerts.evaluate import check_rules
from services.alerts.incidents import Incident, record_incidents
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs import tick
from tests.fakes.settings import settings_of
from tests.jobs.job_rows import runs


def test_a_locked_table_takes_the_figures_of_its_own_rules_and_alerts_leave(
    engine: Engine, owner_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = tick.LIMIT_TIME.replace(f"{tick.LOCK_SECONDS}s", "200ms")
    assert limits != tick.LIMIT_TIME
    monkeypatch.setattr(tick, "LIMIT_TIME", limits)
    tick.tick(engine, utc_now())
    with transaction(engine) as tx:
        tx.execute(text("update rule_evaluations set computed_at = now() - interval '1 hour'"))
        record_incidents(tx, [Incident(None, "audit_chain_failed", "x", "P1", "row 5 altered")], utc_now())
    with settings_of(SLACK_WEBHOOK_URL="https://hooks.slack.com/x"), owner_engine.begin() as other:
        other.exec_driver_sql("lock table mail_outbox in access exclusive mode")
        tick.tick(engine, utc_now())

    late = runs(engine, "select rule from rule_evaluations where computed_at < now() - interval '1 minute'")
    assert {rule for (rule,) in late} - NEVER == {"mails_refused", "alert_channel_failed", "database_large"}
    assert runs(engine, "select topic from work_queue") == [("alert_send",)]


NEVER = {
    "database_slow", "ai_at_cap", "sms_over_budget", "cost_not_converted", "report_failed",
    "canvas_expiring", "canvas_invalidated", "canvas_stale", "notion_drift", "merchants_without_page",
    "conversations_failing",
}  # fmt: skip
"""Rules without figures in this test: no statement was counted, and ``tick`` has no rooms above."""


def test_an_evaluation_ends_at_its_limit_and_the_rules_that_are_left_have_no_figures(
    engine: Engine, owner_engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, limits = utc_now(), []
    with transaction(engine) as tx:
        check_rules(tx, tick.COLLECTORS, now - timedelta(hours=1))
    monkeypatch.setattr(figures, "EVALUATION_SECONDS", 1.0)
    with owner_engine.begin() as other:
        other.exec_driver_sql("lock table work_queue in access exclusive mode")
        for minute in range(3):
            with transaction(engine) as tx:
                tx.exec_driver_sql("set local statement_timeout = '1min'")
                check_rules(tx, tick.COLLECTORS, now + timedelta(minutes=minute))
                limits.append(tx.exec_driver_sql("show statement_timeout").scalar_one())

    assert limits == ["1min"] * 3
    opened = runs(engine, "select rule from incidents where rule like 'rule_not_computed:%'")
    blind = {rule.partition(":")[2] for (rule,) in opened}
    assert {"locks_stuck", "mails_refused", "database_large", "run_too_long"} <= blind
    assert not {"requests_failed", "signature_failures"} & blind
    logged = [vars(one)["fields"] for one in caplog.records if one.message == "figures_not_collected"]
    assert logged[0]["rules"].startswith("connection_broken, credential_expires, ")
