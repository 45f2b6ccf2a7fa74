"""The channel mail: a mail for each change of a P1 or P2; a job's mail is for one job and period."""

import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from services.alerts.incidents import Incident, find_incidents, record_incidents
from services.alerts.messages import MAX_NAMED
from services.alerts.notify import ESCALATE_AFTER, GATHER, record_alerts
from services.alerts.people import resolve_by_person
from services.audit.diagnose import AuditFinding
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.jobs.audit_jobs import describe_findings
from services.jobs.complete_run import sync_run_status
from services.jobs.handler import JobHandler, JobResult, JobRun
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from tests.fleet.waiting import wait_for
from tests.jobs.job_rows import add_jobs, add_shops, make_job, run_tick, runs

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
MAILS = "select kind, subject, text from mail_outbox order by id"
REFUSED = Misconfigured("stripe.key_refused", "HTTP 401 invalid_api_key")


@pytest.fixture(autouse=True)
def operator(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OPERATOR_EMAIL", "ops@example.com")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def add_due_shops(engine: Engine, count: int) -> None:
    """Insert ``count`` shops whose run for 2026-11-20 is due."""
    add_shops(
        engine, NOW - timedelta(days=30), **{f"shop-{n:03}": "America/Los_Angeles" for n in range(count)}
    )
    add_jobs(engine, NOW - timedelta(days=1), make_job())
    run_tick(engine, NOW)


def fail(engine: Engine, first: int, last: int, now: datetime, status: str = "dead") -> None:
    """Make the runs of shops ``first`` to ``last`` dead, and update them at ``now``."""
    with transaction(engine) as tx:
        tx.execute(
            text(
                "update work_queue set status = :status, finished_at = :now, last_error = 'HTTP 401',"
                " error_code = 'stripe.key_refused'"
                " where topic = 'reconcile' and shop_id between :first and :last"
            ),
            {"status": status, "now": now, "first": first, "last": last},
        )
        sync_run_status(tx, now)


def fire(engine: Engine, *incidents: Incident, now: datetime = NOW) -> None:
    with transaction(engine) as tx:
        record_incidents(tx, incidents, now)


def mail(engine: Engine, now: datetime) -> list[tuple[str, str, str]]:
    """Return the mails in the outbox after a check at ``now``; texts on one line."""
    with transaction(engine) as tx:
        record_alerts(tx, now)
    return [(kind, subject, " ".join(body.split())) for kind, subject, body in runs(engine, MAILS)]


def p1(rule: str = "clocks_apart", **detail: object) -> Incident:
    return Incident(None, rule, "2026-11-21", "P1", "they are 180 s apart", detail)


def test_two_hundred_shops_that_fail_in_one_night_are_two_mails(engine: Engine) -> None:
    add_due_shops(engine, 200)
    for number in range(1, 201, 50):
        fail(engine, number, number + 49, NOW + timedelta(minutes=number // 50))
        assert len(mail(engine, NOW + timedelta(minutes=number // 50))) == 1

    (_, first, _), (kind, subject, body) = mail(engine, NOW + GATHER)

    assert first == "P2 daily-reconciliation failed at shop-000, shop-001, shop-002 and 47 more (2026-11-20)"
    assert kind == "incident"
    assert subject == (
        "P2 daily-reconciliation failed at shop-050, shop-051, shop-052 and 147 more (2026-11-20)"
    )
    assert "Found at: 150 places" in body
    assert body.count("stripe.key_refused") == MAX_NAMED
    assert f"and {150 - MAX_NAMED} more" in body
    assert "fleet incidents list --rule job_failed" in body
    assert "--shop SHOP" not in body
    assert len(mail(engine, NOW + timedelta(days=1))) == 2


def test_each_job_and_period_has_its_own_mail(engine: Engine) -> None:
    failed = [Incident(None, f"job_failed:{job}", "2026-11-20", "P2", "x") for job in ("digest", "close")]
    fire(engine, *failed, failed[0]._replace(period="2026-11-21"))

    assert sorted(subject for _, subject, _ in mail(engine, NOW)) == [
        "P2 close failed at fleet (2026-11-20)",
        "P2 digest failed at fleet (2026-11-20)",
        "P2 digest failed at fleet (2026-11-21)",
    ]


def test_a_refused_key_ends_in_an_incident_and_a_mail_and_a_good_run_closes_it(engine: Engine) -> None:
    add_due_shops(engine, 1)

    def refused(_run: JobRun) -> JobResult:
        raise REFUSED

    runner = ExternalRunner(engine, "tests", random.Random(1))
    runner.run_batch(TOPICS["reconcile"], JobHandler(refused))
    with transaction(engine) as tx:
        sync_run_status(tx, NOW)
    ((rule, summary),) = runs(engine, "select rule, summary from incidents where status = 'open'")
    assert rule == "job_failed:daily-reconciliation"
    assert "stripe.key_refused: HTTP 401 invalid_api_key" in summary
    ((_, subject, _),) = mail(engine, NOW)
    assert subject == "P2 daily-reconciliation failed at shop-000 (2026-11-20)"

    with transaction(engine) as tx:
        tx.execute(text("update work_queue set status = 'pending', finished_at = null"))
    runner.run_batch(TOPICS["reconcile"], JobHandler(lambda _run: JobResult()))
    assert runs(engine, "select status from incidents") == [("resolved",)]
    _, (_, subject, body) = mail(engine, NOW + timedelta(days=1))
    assert subject == "Recovered: P2 daily-reconciliation failed at shop-000 (2026-11-20)"
    assert "Nothing is left to do" in body


def test_a_run_that_a_person_discarded_is_no_incident(engine: Engine) -> None:
    add_due_shops(engine, 1)
    fail(engine, 1, 1, NOW, status="discarded")
    assert runs(engine, "select status from job_runs") == [("failed",)]
    assert runs(engine, "select * from incidents") == []


def test_incident_resolved_before_its_mail_is_not_mailed(engine: Engine) -> None:
    add_due_shops(engine, 1)
    fail(engine, 1, 1, NOW)
    with transaction(engine) as tx:
        (line,) = find_incidents(tx)
        resolve_by_person(tx, line.id, now=NOW, by="ada", reason="known", request_id="r")
    assert mail(engine, NOW) == []


def test_a_p1_is_mailed_at_once_and_once(engine: Engine) -> None:
    fire(engine, p1())
    ((kind, subject, body),) = mail(engine, NOW)
    assert (kind, subject) == ("incident", "P1 clocks apart at fleet (2026-11-21)")
    assert "they are 180 s apart" in body
    assert "timedatectl set-ntp true" in body
    assert len(mail(engine, NOW + ESCALATE_AFTER - timedelta(seconds=1))) == 1


def test_a_p1_that_is_open_for_two_hours_is_mailed_once_more(engine: Engine) -> None:
    fire(engine, p1())
    mail(engine, NOW)
    _, (_, subject, body) = mail(engine, NOW + ESCALATE_AFTER)
    assert subject == "Escalated: P1 clocks apart at fleet (2026-11-21)"
    assert "Get a second person" in body
    assert "escalated because it is a P1 and open for 2 h; nobody acknowledged it" in " ".join(body.split())
    assert len(mail(engine, NOW + timedelta(days=1))) == 2


def test_a_p3_is_not_mailed_until_it_is_a_p2(engine: Engine) -> None:
    fire(engine, p1()._replace(severity="P3"))
    assert mail(engine, NOW + timedelta(days=1)) == []
    fire(engine, p1()._replace(severity="P2"))
    assert len(mail(engine, NOW + timedelta(days=1))) == 1


def test_an_incident_that_rises_to_p1_is_mailed_again(engine: Engine) -> None:
    fire(engine, p1()._replace(severity="P2"))
    assert len(mail(engine, NOW)) == 1
    fire(engine, p1(), now=NOW + GATHER)
    _, (_, subject, body) = mail(engine, NOW + GATHER)
    assert subject == "Worse: P1 clocks apart at fleet (2026-11-21)"
    assert "(P1)" in body


def test_other_rules_have_one_mail_with_what_to_do(engine: Engine) -> None:
    locks = Incident(None, "locks_stuck:mail_send", "2026-11-21", "P2", "3 items are locked")
    fire(engine, locks, locks._replace(rule="locks_stuck:reconcile"))
    ((_, subject, body),) = mail(engine, NOW)
    assert subject == "P2 locks stuck at fleet, fleet (2026-11-21)"
    assert "celery -A tasks unlock --older-than 15m frees them" in body


def test_resolved_incident_is_mailed_again_with_a_new_finding(engine: Engine) -> None:
    fire(engine, p1(findings=["row 2"]))
    mail(engine, NOW)
    with transaction(engine) as tx:
        resolve_by_person(tx, 1, now=NOW, by="ada", reason="restored", request_id="r")
    fire(engine, p1(findings=["row 2"]))
    subjects = [subject for _, subject, _ in mail(engine, NOW + timedelta(hours=1))]
    assert [subject.partition(":")[0] for subject in subjects[1:]] == ["Recovered"]
    fire(engine, p1(findings=["row 9"]))
    assert len(mail(engine, NOW + timedelta(hours=1))) == 3


def test_a_chain_that_fails_has_the_mail_that_keeps_its_evidence(engine: Engine) -> None:
    add_shops(engine, NOW, west="America/Los_Angeles")
    found = AuditFinding(kind="altered", shop_id=1, seq=2, event_id=7, detail="its hash is of other content")
    fire(engine, describe_findings("2026-11-20", [found]))
    ((kind, subject, body),) = mail(engine, NOW)
    assert (kind, subject) == ("audit_failed", "Audit of west: row 2 was altered")
    assert "its hash is of other content" in body


def test_without_an_address_nothing_is_mailed_until_there_is_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPERATOR_EMAIL")
    get_settings.cache_clear()
    fire(engine, p1())
    assert mail(engine, NOW) == []
    monkeypatch.setenv("OPERATOR_EMAIL", "ops@example.com")
    get_settings.cache_clear()
    assert len(mail(engine, NOW)) == 1


def test_two_concurrent_processes_send_one_mail(engine: Engine) -> None:
    fire(engine, p1())
    second = threading.Thread(target=mail, args=(engine, NOW + timedelta(seconds=1)))
    waiting = "select pid from pg_locks where locktype = 'advisory' and not granted"
    with transaction(engine) as tx:
        record_alerts(tx, NOW)
        second.start()
        wait_for(lambda: len(runs(engine, waiting)) == 1)
    second.join(60)
    assert len(runs(engine, MAILS)) == 1
    assert len(runs(engine, "select id from work_queue where topic = 'mail_send'")) == 1
