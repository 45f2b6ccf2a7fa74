"""What changes while a message about it is sent or waits is sent too, once and in order."""

from datetime import datetime, timedelta

from sqlalchemy import Engine, text

from services.alerts.channels import AlertSendHandler
from services.alerts.gate import OPENED, open_gate, read_gate
from services.alerts.incidents import Incident, record_incidents
from services.alerts.notify import GATHER, post_note, record_alerts
from services.alerts.people import acknowledge
from services.audit.diagnose import AuditFinding
from services.core.db import transaction
from services.jobs.audit_jobs import record_findings
from tests.alerts.slack import MINUTE, NOW, TOPIC, act, failure, fire, notify, recover
from tests.alerts.test_notify import OUTCOMES, UNREADABLE
from tests.fakes.settings import settings_of
from tests.fakes.web import Answer, Web
from tests.jobs.job_rows import add_shops, runs
from tests.jobs.work import serve


def find(engine: Engine, detail: str, now: datetime) -> None:
    with transaction(engine) as tx:
        record_findings(tx, [AuditFinding("altered", 1, 5, detail)], "2026-11-28", now)


def test_a_new_finding_is_sent_and_ends_the_acknowledgement_and_the_opening_of_the_gate(
    engine: Engine, owner_engine: Engine, web: Web
) -> None:
    add_shops(engine, NOW, acme="UTC")
    find(engine, "row 5", NOW)
    notify(engine, web, NOW)
    act(engine, acknowledge, NOW + MINUTE)
    with transaction(owner_engine) as tx:
        open_gate(tx, 1, now=NOW + MINUTE, by="ada", reason="repairs it", request_id="r")
    with transaction(engine) as tx:
        assert read_gate(tx, NOW + MINUTE).reasons == []

    find(engine, "row 5", NOW + 2 * GATHER)
    assert notify(engine, web, NOW + 2 * GATHER) == []
    find(engine, "row 99", NOW + 2 * GATHER)
    (worse,) = notify(engine, web, NOW + 2 * GATHER)
    assert worse.startswith("*P1 worsened*")
    assert "row 99" in worse
    assert "ada holds it" not in worse
    with transaction(engine) as tx:
        gate = read_gate(tx, NOW + 2 * GATHER)
    assert [reason.code for reason in gate.reasons] == ["audit_chain_broken"]
    kinds = [kind for (kind,) in runs(engine, "select kind from incident_entries order by id")]
    assert kinds == ["opened", "notified", "acknowledge", OPENED, "worsened", "notified"]


def test_an_incident_that_another_transaction_changes_is_sent_as_it_is_then(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    with transaction(engine) as tx:
        record_incidents(tx, [failure(severity="P1")], NOW + MINUTE)
        assert notify(engine, web, NOW + MINUTE) == []

    (opened,) = notify(engine, web, NOW + 2 * MINUTE)
    assert opened.startswith("*P1 opened*")


def test_a_worsening_that_began_before_the_last_message_is_sent(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    notify(engine, web, NOW + MINUTE)
    fire(engine, failure(severity="P1"), now=NOW)

    (worse,) = notify(engine, web, NOW + 2 * MINUTE)
    assert worse.startswith("*P1 worsened*")


def test_a_p1_does_not_wait_for_a_p2_of_its_rule(engine: Engine, web: Web) -> None:
    add_shops(engine, NOW, acme="UTC", beta="UTC", gamma="UTC")
    fire(engine, failure(1))
    notify(engine, web, NOW)
    fire(engine, failure(2, "P1"), now=NOW + MINUTE)

    assert len(notify(engine, web, NOW + MINUTE)) == 1
    fire(engine, failure(3, "P1"), now=NOW + MINUTE)
    assert notify(engine, web, NOW + MINUTE) == [], "a storm of P1 is one message"


def test_a_p1_of_the_fleet_does_not_wait_for_another_subject(engine: Engine, web: Web) -> None:
    for minute, queue in enumerate(("ops", "email")):
        fire(engine, failure(severity="P1", rule=f"worker_not_consuming:{queue}"), now=NOW + minute * MINUTE)
        assert len(notify(engine, web, NOW + minute * MINUTE)) == 1


def test_an_opening_that_is_retried_until_its_end_was_sent_is_not_sent(engine: Engine, web: Web) -> None:
    web.answers = [Answer(503)] * 2
    fire(engine, failure(1), failure(2))
    notify(engine, web, NOW)
    recover(engine, failure(1), NOW + MINUTE)
    with transaction(engine) as tx:
        record_alerts(tx, NOW + MINUTE)
    serve(engine, TOPIC, AlertSendHandler())  # the end is retried too: both are sent
    assert [status for status, _ in runs(engine, OUTCOMES)] == ["error", "error"]
    with transaction(engine) as tx:
        tx.execute(text("update work_queue set next_retry_at = now() where id = 2"))
    serve(engine, TOPIC, AlertSendHandler())
    assert runs(engine, OUTCOMES)[1] == ("done", "sent")

    recover(engine, failure(2), NOW + 2 * GATHER)
    with transaction(engine) as tx:
        record_alerts(tx, NOW + 2 * GATHER)
    serve(engine, TOPIC, AlertSendHandler())
    assert notify(engine, web, NOW + 2 * GATHER) == []
    assert runs(engine, OUTCOMES) == [("done", "overtaken"), ("done", "sent"), ("done", "sent")]


def test_an_opening_whose_end_was_not_sent_yet_is_sent(engine: Engine, web: Web) -> None:
    web.answers = [Answer(503)]
    fire(engine, failure())
    notify(engine, web, NOW)
    recover(engine, failure(), NOW + MINUTE)

    texts = notify(engine, web, NOW + MINUTE)
    assert sorted(text.split("*")[1] for text in texts) == ["P2 opened", "P2 recovered"]


def test_two_notes_of_one_second_are_two_messages(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    with transaction(engine) as tx:
        for part in range(2):
            post_note(tx, 1, f"note {part}", "ada", NOW + part * timedelta(milliseconds=400))

    assert len({key for (key,) in runs(engine, "select key from work_queue")}) == 2


def test_a_late_run_without_its_status_is_mailed(engine: Engine, web: Web) -> None:
    late = Incident(None, "cron_did_not_run:close", "2026-11", "P2", "late", {"due_at": NOW.isoformat()})
    fire(engine, late)
    with settings_of(OPERATOR_EMAIL="ops@example.com"):
        notify(engine, web, NOW)

    assert runs(engine, "select kind from mail_outbox") == [("incident",)]


def test_an_incident_that_no_channel_can_form_is_tried_again(engine: Engine) -> None:
    late = Incident(None, "cron_did_not_run:close", "2026-11", "P2", "late", UNREADABLE)
    fire(engine, late)
    with settings_of(OPERATOR_EMAIL="ops@example.com"):
        with transaction(engine) as tx:
            record_alerts(tx, NOW)
        assert runs(engine, "select notified_change from incidents") == [("",)]
        fire(engine, late._replace(detail={}), now=NOW + MINUTE)
        with transaction(engine) as tx:
            record_alerts(tx, NOW + MINUTE)

    assert runs(engine, "select count(*) from mail_outbox") == [(1,)]
