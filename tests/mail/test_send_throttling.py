"""Mails wait for a service's limits, and a wait does not count as a try."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.mail.send import MailSendHandler
from services.shops.connections import list_connections
from tests.mail.mails import mails_of, new_mail, queue, run
from tests.mail.services import graph, resend


def test_after_a_429_other_mails_of_the_account_wait_without_counting_a_try(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    effect = MailSendHandler(lambda: engine)
    with graph(monkeypatch) as service:
        service.answers = [(429, {"error": {"code": "ApplicationThrottled"}}, {"retry-after": "70"})]
        queue(engine, new_mail(1))
        run(engine, effect)
        queue(engine, *(new_mail(n) for n in range(2, 8)))
        before = utc_now()
        run(engine, effect)
        run(engine, MailSendHandler(lambda: engine))  # another process

    assert len(service.calls) == 1
    with transaction(engine) as tx:
        waiting = tx.execute(
            text("select retry_count, status, next_retry_at, error_code from work_queue order by id")
        ).all()
    assert [row.retry_count for row in waiting] == [1, 0, 0, 0, 0, 0, 0]
    assert all(row.next_retry_at > before + timedelta(seconds=60) for row in waiting)
    assert {row["status"] for row in mails_of(engine)} == {"queued"}


def test_a_batch_stops_calling_a_service_after_a_429(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(engine, *(new_mail(n) for n in range(100)))
    with graph(monkeypatch) as service:
        service.answers = [(429, {"error": {"code": "ApplicationThrottled"}}, {"retry-after": "70"})] * 100
        run(engine)

    assert len(service.calls) <= 8, "four connections, and those that begin before the first answer is read"
    with transaction(engine) as tx:
        tries = tx.execute(
            text("select sum(retry_count), count(*) from work_queue where status <> 'done'")
        ).one()
    assert tuple(tries) == (len(service.calls), 100)


def test_resends_daily_quota_waits_hours_and_breaks_the_connection(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, new_mail())
    quota = {"statusCode": 429, "name": "daily_quota_exceeded", "message": "You have reached your quota."}
    with resend(monkeypatch) as service:
        service.answers = [(429, quota, {})]
        before = utc_now()
        run(engine)

    with transaction(engine) as tx:
        status, due = tx.execute(text("select status, next_retry_at from work_queue")).one()
        (state,) = list_connections(tx)
    assert status == "error"
    assert due > before + timedelta(hours=2)
    assert (state.status, state.code) == ("broken", "resend.daily_quota_exceeded")


def test_mails_over_the_accounts_rate_wait_without_counting_a_try(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, *(new_mail(n) for n in range(8)))
    with resend(monkeypatch) as service:
        monkeypatch.setenv("MAIL_RATE_PER_SECOND", "5")
        from services.core.settings import get_settings

        get_settings.cache_clear()
        before = utc_now()
        run(engine)

    assert len(service.mails) == 5
    with transaction(engine) as tx:
        waits = tx.execute(
            text(
                "select next_retry_at, retry_count, status, error_code from work_queue "
                "where status <> 'done' order by next_retry_at"
            )
        ).all()
    assert [(row.retry_count, row.status, row.error_code) for row in waits] == [
        (0, "pending", "mail.paced")
    ] * 3
    assert waits[0].next_retry_at < waits[1].next_retry_at < waits[2].next_retry_at
    assert waits[2].next_retry_at > before + timedelta(seconds=0.5)
