"""Daily reminders, from the audience to the figures of the run."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine

import beat_schedule
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.jobs.store import change_job, get_job, record_jobs
from services.outreach.compose import check_sender
from services.outreach.consents import withdraw
from services.outreach.people import find_ids
from services.outreach.series import BY_JOB
from services.outreach.tables import BASES
from services.shops.shops import get_shop, set_shop
from tasks.commands.jobs_run import RunResult, describe_result
from tests.outreach.audience import DAY, MAILS, NINE, SENDS, TWO_PM, Audience
from tests.shopify.sample_payloads import add_shop


def test_a_person_without_activity_gets_one_mail_with_sender_and_link(audience: Audience) -> None:
    audience.add({"external_id": "ada", "name": "Ada"}, {"external_id": "bo", "last_active_at": NINE - DAY})

    assert audience.run("send-reminders", NINE) == {"sent": 1}

    ((text, headers),) = audience.rows("select text, headers from mail_outbox")
    assert "Hello Ada" in text
    assert "Am Hafen 1, 20095 Hamburg, Germany" in text
    assert "hello@harbour.example" in text
    assert "Shopfleet" not in text
    link = headers["List-Unsubscribe"]
    assert link.startswith("<https://hooks.example.com/unsubscribe/1.reminders.")
    assert link[1:-1] in text
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_a_reminder_goes_once_a_day_however_often_its_job_runs(audience: Audience) -> None:
    audience.add({"external_id": "ada"})

    assert audience.run("send-reminders", NINE) == {"sent": 1}
    for _ in range(10):
        audience.run("send-reminders", NINE + timedelta(hours=1), force=True)

    assert audience.rows(SENDS) == [("ada", "2026-11-20", "sent")]
    assert audience.rows(MAILS) == [("ada@example.com", "sent")]
    assert audience.stats("send-reminders") == {"sent": 1, "skipped": 1, "already_sent": 1}
    assert audience.run("send-reminders", NINE + DAY) == {"sent": 1}
    assert len(audience.rows(SENDS)) == 2


def test_another_address_gets_no_second_mail_of_the_day(audience: Audience) -> None:
    audience.add({"external_id": "ada"})
    audience.run("send-reminders", NINE)
    audience.add({"external_id": "ada", "email": "new@example.com"})

    audience.run("send-reminders", NINE, force=True)

    assert audience.rows(MAILS) == [("ada@example.com", "sent")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"consent": ""}, "no_consent"),
        ({"consent": "implied", "consent_expires_at": NINE}, "no_consent"),
        ({"consent_given_at": NINE + timedelta(minutes=30)}, "no_consent"),
    ],
)
def test_nobody_gets_a_mail_without_a_consent_that_holds(
    audience: Audience, change: dict[str, object], reason: str
) -> None:
    audience.add({"external_id": "ada", **change})

    assert audience.run("send-reminders", NINE) == {"skipped": 1, reason: 1}
    assert audience.rows(MAILS) == []


def test_implied_consent_holds_until_its_end(audience: Audience) -> None:
    ends = NINE + timedelta(hours=2)
    audience.add({"external_id": "ada", "consent": "implied", "consent_expires_at": ends})

    assert audience.run("send-reminders", NINE) == {"sent": 1}
    assert audience.run("send-reminders", NINE + DAY) == {"skipped": 1, "no_consent": 1}


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("job", BY_JOB)
def test_the_reason_in_each_mail_is_true_for_each_basis(audience: Audience, basis: str, job: str) -> None:
    """Implied consent is no agreement: every mail states the sign-up, which both series require."""
    consent = {"consent": basis, "consent_expires_at": NINE + 30 * DAY}
    signed_up_at = NINE - (20 if job == "send-reminders" else 2) * DAY
    audience.add(
        {"external_id": "ada", "signed_up_at": signed_up_at, **consent},
        {"external_id": "never", "signed_up_at": "", **consent},
    )

    assert audience.run(job, TWO_PM)["sent"] == 1

    ((recipient, text, html),) = audience.rows("select recipient, text, html from mail_outbox")
    assert recipient == "ada@example.com"
    for part in (text, html):
        assert "You get this because you signed up with us." in part
        assert "agree" not in part


def test_a_consent_must_hold_when_the_mail_goes_out_after_quiet_hours(audience: Audience) -> None:
    audience.add(
        {
            "external_id": "ada", "timezone": "America/New_York", "consent": "implied",
            "consent_expires_at": NINE + timedelta(hours=2),
        }
    )  # fmt: skip
    assert audience.run("send-reminders", NINE) == {"skipped": 1, "no_consent": 1}


def test_a_withdrawal_stops_a_mail_that_is_in_the_outbox(audience: Audience) -> None:
    audience.add({"external_id": "ada"}, {"external_id": "bo"})
    audience.start("send-reminders", NINE)
    audience.compose(NINE)

    with transaction(audience.engine) as tx:
        ids = find_ids(tx, audience.shop.id, "ada@example.com")
        assert withdraw(tx, audience.shop.id, ids, "one click", now=NINE, by="link") == 1
    audience.send()
    audience.follow(NINE + timedelta(minutes=1))

    assert audience.rows(MAILS) == [("ada@example.com", "refused"), ("bo@example.com", "sent")]
    assert audience.stats("send-reminders") == {"sent": 1, "skipped": 1, "unsubscribed": 1}
    assert audience.run("send-reminders", NINE + DAY) == {"sent": 1, "skipped": 1, "unsubscribed": 1}


def test_the_mail_of_a_day_is_reserved_for_a_due_step_of_the_sequence(audience: Audience) -> None:
    """A step is lost after a day; a reminder goes out on another day."""
    audience.add({"external_id": "ada", "signed_up_at": NINE - 2 * DAY})

    assert audience.run("send-reminders", NINE) == {"skipped": 1, "reserved": 1}
    assert audience.run("founder-sequence", TWO_PM) == {"sent": 1, "day1_sent": 1}
    assert audience.run("send-reminders", TWO_PM, force=True) == {"skipped": 1, "capped": 1}
    for day in (1, 2):
        assert audience.run("send-reminders", NINE + day * DAY) == {"skipped": 1, "reserved": 1}
        assert audience.run("founder-sequence", TWO_PM + day * DAY)["sent"] == 1
    assert audience.run("send-reminders", NINE + 3 * DAY) == {"sent": 1}
    assert len(audience.rows(MAILS)) == 4


def test_a_higher_cap_leaves_a_mail_for_the_reminder(audience: Audience) -> None:
    audience.add({"external_id": "ada", "signed_up_at": NINE - 2 * DAY})
    with transaction(audience.engine) as tx:
        set_shop(tx, "harbour", {"mails_per_day": "2"}, now=NINE)

    assert audience.run("send-reminders", NINE) == {"sent": 1}
    assert audience.run("founder-sequence", TWO_PM) == {"sent": 1, "day1_sent": 1}


def test_nothing_is_reserved_for_a_sequence_that_is_paused(audience: Audience) -> None:
    audience.add({"external_id": "ada", "signed_up_at": NINE - 2 * DAY})
    with transaction(audience.engine) as tx:
        record_jobs(tx, beat_schedule.JOBS, NINE)
        change_job(tx, get_job(tx, "founder-sequence"), None, {"enabled": False}, by="ada", now=NINE)

    assert audience.run("send-reminders", NINE) == {"sent": 1}
    assert audience.run("founder-sequence", TWO_PM) == {"skipped": 1, "capped": 1}


def test_the_sequence_loses_no_step_to_reminders(audience: Audience) -> None:
    """With the usual cap, in each zone, while reminders run each day."""
    zones = ("Pacific/Pago_Pago", "America/Vancouver", "UTC", "Asia/Kathmandu", "Australia/Lord_Howe",
             "Pacific/Auckland", "Pacific/Kiritimati")  # fmt: skip
    people = [
        {"external_id": f"p{hour}-{place}", "timezone": zone, "signed_up_at": NINE - timedelta(hours=hour)}
        for hour in (1, 9, 17)
        for place, zone in enumerate(zones)
    ]
    audience.add(*people)

    for day in range(6):
        for job, at in (("send-reminders", NINE), ("founder-sequence", TWO_PM)):
            audience.start(job, at + day * DAY)
            audience.compose(at + day * DAY)

    steps = audience.rows(
        "select step, count(*) from outreach_sends where series = 'founder' group by 1 order by 1"
    )
    assert steps == [(f"day{day}", len(people)) for day in (1, 2, 3)]
    assert audience.rows("select 1 from outreach_sends where status = 'skipped'") == []
    per_day = (
        "select max(count) from (select count(*) from outreach_sends group by person_id, local_day) each"
    )
    assert audience.rows(per_day) == [(1,)]


def test_a_mail_waits_for_the_end_of_quiet_hours(audience: Audience) -> None:
    audience.add({"external_id": "ada", "timezone": "America/New_York"}, {"external_id": "bo"})
    audience.start("send-reminders", NINE)
    audience.compose(NINE)

    waits = audience.rows("select next_retry_at from work_queue where topic = 'mail_send' order by id")
    # 04:00 in New York; the quiet hours end at 08:00, which is 13:00 UTC.
    assert waits == [(NINE + timedelta(hours=4),), (None,)]
    audience.send()
    audience.follow(NINE + timedelta(minutes=1))
    assert audience.stats("send-reminders") == {"sent": 1, "delayed": 1}


def test_figures_follow_a_mail_that_is_sent_after_the_run_has_ended(audience: Audience) -> None:
    audience.add({"external_id": "ada"})
    audience.start("send-reminders", NINE)
    audience.compose(NINE)
    audience.follow(NINE + timedelta(minutes=1))
    assert audience.stats("send-reminders") == {}
    audience.follow(NINE + timedelta(minutes=26))
    assert audience.stats("send-reminders") == {"waiting": 1}

    audience.send()
    audience.follow(NINE + timedelta(minutes=27))

    assert audience.stats("send-reminders") == {"sent": 1}


def test_a_shop_without_a_sender_sends_nothing_and_says_what_is_missing(audience: Audience) -> None:
    audience.add({"external_id": "ada"}, {"external_id": "bo"})
    with transaction(audience.engine) as tx:
        set_shop(tx, "harbour", {"postal_address": ""}, now=NINE)

    assert audience.run("send-reminders", NINE) == {"failed": 2}

    assert audience.rows(MAILS) == []
    ((summary,),) = audience.rows("select summary from incidents where status = 'open'")
    assert "harbour has no postal_address: `fleet shops set harbour --postal-address TEXT`" in summary
    with transaction(audience.engine) as tx:
        set_shop(tx, "harbour", {"postal_address": "Am Hafen 1, 20095 Hamburg"}, now=NINE)
    assert audience.run("send-reminders", NINE, force=True) == {"sent": 2}
    assert audience.rows("select status from incidents") == [("resolved",)]


def test_all_that_a_shop_and_the_fleet_lack_is_named_at_once(engine: Engine) -> None:
    add_shop(engine)
    with transaction(engine) as tx:
        shop = get_shop(tx, "harbour")
    with pytest.raises(Misconfigured) as raised:
        check_sender(shop, "")

    for name in ("postal_address", "mail_contact", "PUBLIC_URL"):
        assert name in raised.value.detail


@pytest.mark.parametrize(
    ("stats", "words"),
    [({"sent": 1, "failed": 2}, "was done, but not every mail was sent"), ({"sent": 1}, "was done in 1.0 s")],
)
def test_a_run_whose_mails_failed_says_so(stats: dict[str, int], words: str) -> None:
    line: Any = SimpleNamespace(job="send-reminders", period="2026-11-19", stats=stats, duration_seconds=1.0)
    result = RunResult(None, line, "done")

    assert words in describe_result(result, NINE)
    assert result.is_good is ("failed" not in stats)
