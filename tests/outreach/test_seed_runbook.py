"""Scheduled mail as isolated jobs, as the operators of an app describe it: a script, HTTP, and beat."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

import beat_schedule
from services.alerts.posthog import PosthogCaptureHandler
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.handler import JobHandler
from services.jobs.store import record_jobs
from services.jobs.tick import tick
from services.outreach.job import start_series
from tasks.collectors import COLLECTORS, FOLLOWERS
from tests.console.people import make_console
from tests.fakes.settings import settings_of
from tests.fakes.web import Web
from tests.jobs.cron_client import SECRET
from tests.jobs.job_commands import fleet_process
from tests.jobs.work import serve
from tests.outreach.audience import DAY, SINCE, Audience


def find_midday_zone() -> str:
    """Return a zone in which it is about noon: no quiet hours."""
    hours = 12 - utc_now().hour
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"


@pytest.fixture
def app(audience: Audience) -> Iterator[Audience]:
    """The app with eight people who have not practised, and one who signed up on each of three days."""
    now, zone = utc_now(), find_midday_zone()
    old = [
        {
            "external_id": f"old-{n}",
            "timezone": zone,
            "signed_up_at": now - 60 * DAY,
            "last_active_at": now - 9 * DAY,
        }
        for n in range(8)
    ]
    new = [{"external_id": f"new-{n}", "timezone": zone, "signed_up_at": now - n * DAY} for n in (1, 2, 3)]
    for one in new[1:]:
        one["last_active_at"] = now - timedelta(minutes=5)
    audience.add(*old, *new, now=now)
    with transaction(audience.engine) as tx:
        record_jobs(tx, beat_schedule.JOBS, SINCE)
    yield audience


def read_result(stdout: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return found


def test_as_a_script_without_workers_it_sends_prints_figures_and_exits_0(app: Audience) -> None:
    done = fleet_process("run", "send-reminders")

    assert done.returncode == 0, done.stderr + done.stdout
    result = read_result(done.stdout)
    assert (result["status"], result["stats"]["sent"], result["stats"]["failed"]) == ("done", 8, 0)
    assert len(app.smtp.mails) == 8
    again = fleet_process("run", "send-reminders")
    assert (again.returncode, read_result(again.stdout)["status"]) == (0, "already_done")
    forced = fleet_process("run", "send-reminders", "--again")
    assert read_result(forced.stdout)["stats"]["already_sent"] == 8
    assert len(app.smtp.mails) == 8


def test_as_a_script_it_exits_1_when_a_mail_failed(app: Audience) -> None:
    app.smtp.answers["RCPT"] = ["550 no such person"]

    done = fleet_process("run", "send-reminders")

    assert done.returncode == 1
    assert read_result(done.stdout)["stats"] | {"sent": 7, "failed": 1} == read_result(done.stdout)["stats"]


def test_the_founder_sequence_counts_each_day_and_says_so_to_posthog(app: Audience) -> None:
    with Web() as web, settings_of(POSTHOG_KEY="phc_" + "k" * 40, POSTHOG_HOST=web.url):
        done = fleet_process("run", "founder-sequence")
        serve(app.engine, "posthog_capture", PosthogCaptureHandler())

    # Those of two and three days ago get the step of yesterday first, a day late.
    stats = read_result(done.stdout)["stats"]
    assert (done.returncode, stats["sent"], stats["day1_sent"], stats["day2_sent"]) == (0, 3, 2, 1)
    (event,) = web.requests[0].json["batch"]
    assert event["event"] == "cron_job_completed"
    assert event["properties"]["job"] == "founder-sequence"
    assert event["properties"]["stats"] == stats
    assert event["properties"]["duration_seconds"] >= 0


@pytest.mark.parametrize("path", ["/api/v1/internal/send-reminders", "/cron/send-reminders"])
def test_over_http_with_bearer_it_does_the_same(app: Audience, path: str) -> None:
    with settings_of(CRON_SECRET=SECRET):
        client = make_console(app.engine)
        assert client.post(path, headers={"Authorization": "Bearer wrong"}).status_code == 403
        assert app.rows("select 1 from job_runs") == []
        answer = client.post(path, headers={"Authorization": f"Bearer {SECRET}"})
    assert answer.status_code == 202
    work_off(app)

    assert app.stats("send-reminders") == {"sent": 8}
    assert len(app.smtp.mails) == 8
    with settings_of(CRON_SECRET=SECRET):
        again = make_console(app.engine).post(path, headers={"Authorization": f"Bearer {SECRET}"})
    assert (again.status_code, again.json["status"]) == (200, "already_done")


def test_beat_starts_both_jobs_at_their_times(app: Audience) -> None:
    """Beat plans them for 09:00 and 14:00 UTC, and its tick ends the runs."""
    now = utc_now()
    at = {job.name: job for job in beat_schedule.JOBS}
    assert (at["send-reminders"].schedule, at["send-reminders"].zone) == ("0 9 * * *", "UTC")
    assert (at["founder-sequence"].schedule, at["founder-sequence"].zone) == ("0 14 * * *", "UTC")
    beat(app, now)
    with transaction(app.engine) as tx:
        tx.exec_driver_sql("update job_schedule_state set scheduled_until = now() - interval '1 day'")
    beat(app, now)
    work_off(app)
    beat(app, now)

    found = app.rows("select job, origin, status, stats ->> 'sent' from job_runs where job in"
                     " ('send-reminders', 'founder-sequence') order by job")  # fmt: skip
    assert [(job, origin, status) for job, origin, status, _ in found] == [
        ("founder-sequence", "beat", "done"),
        ("send-reminders", "beat", "done"),
    ]
    assert sum(int(sent) for *_, sent in found) == len(app.smtp.mails) >= 10


def beat(app: Audience, now: datetime) -> None:
    tick(app.engine, now, COLLECTORS, FOLLOWERS)


def work_off(app: Audience) -> None:
    """Do the work of the started runs as workers do."""
    while serve(app.engine, "outreach", JobHandler(start_series)).claimed:
        pass
    now = utc_now()
    app.compose(now)
    app.send()
    app.follow(now + timedelta(minutes=1))
