"""A process is killed at each step of a run of a series: every person gets the mail of the day once."""

from collections import Counter
from dataclasses import replace
from datetime import datetime
from functools import partial

from sqlalchemy import text

from services.core.clock import utc_now
from services.core.db import get_engine, transaction
from services.ledger.sweep import free_expired
from tests.killed import run_killed
from tests.outreach.audience import DAY, NINE, Audience

PEOPLE = 5


def compose_in_child(audience: Audience, now: datetime) -> None:
    replace(audience, engine=get_engine()).compose(now)


def test_after_a_kill_at_any_step_of_composing_each_person_has_one_mail_of_the_day(
    audience: Audience,
) -> None:
    audience.add(*({"external_id": f"u-{number}"} for number in range(PEOPLE)))
    days, has_ended = 0, False
    while not has_ended:
        now = NINE + days * DAY
        days += 1
        audience.start("send-reminders", now)
        has_ended = run_killed(audience.engine, partial(compose_in_child, audience, now), days)
        with transaction(audience.engine) as tx:
            expire = "update work_queue set lease_until = now() - interval '1 s' where locked_at is not null"
            tx.execute(text(expire))
            free_expired(tx, utc_now())
        audience.compose(now)
        audience.send()
        audience.follow(now + DAY / 24)
        assert audience.stats("send-reminders") == {"sent": PEOPLE}, days

    assert days == 3  # killed before and after the commit, then not at all
    mails = audience.rows("select recipient, period from mail_outbox where status = 'sent'")
    assert set(Counter(mails).values()) == {1}
    assert len(mails) == len(audience.smtp.mails) == PEOPLE * days
    assert audience.rows("select count(*) from outreach_sends where status = 'sent'") == [(PEOPLE * days,)]
