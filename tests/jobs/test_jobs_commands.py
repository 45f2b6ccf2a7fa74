"""``fleet jobs`` commands with a real ledger; runs in real processes."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, text

from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.definition import FLEET_ZONE, Covers
from services.jobs.runs import trigger_job
from services.ledger.lease import lease_items
from services.ledger.sweep import free_expired
from services.ledger.topics import TOPICS
from services.shops.secrets import record_secret
from tests.fakes.settings import settings_of
from tests.fakes.web import Web
from tests.jobs.job_rows import add_jobs, add_shops, make_job, run_tick, runs
from tests.jobs.work import finish_runs
from tests.observability.sentry_sink import SentrySink

FLEET = Path(sys.executable).parent / "fleet"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NIGHTLY = make_job()
WEEKLY = make_job(
    name="audit-verify",
    topic="audit_verify",
    title="chains are recomputed",
    schedule="30 1 * * 1",
    zone=FLEET_ZONE,
    per_shop=False,
    covers=Covers.WEEK,
)
PERIOD = "2026-11-19"
RUNS = "select shop_id, period, status, origin, started_by from job_runs order by shop_id"


def fleet(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["jobs", *arguments])


def document(*arguments: str) -> Any:
    result = fleet(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def fleet_process(*arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
    """Start the command in a new process, as a timer would."""
    return subprocess.run(
        [FLEET, "jobs", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "LOG_LEVEL": "info", "LOG_FORMAT": "json", **values},
        check=False,
    )


@pytest.fixture
def shops(engine: Engine) -> Iterator[None]:
    """Two shops in two zones and two jobs; restores the logging."""
    add_shops(engine, LONG_AGO, west="America/Los_Angeles", east="Asia/Tokyo")
    add_jobs(engine, LONG_AGO, NIGHTLY, WEEKLY)
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.captureWarnings(capture=False)


def test_list_shows_schedules_in_words_and_in_local_time(engine: Engine, shops: None) -> None:
    shown = fleet("list").output
    assert "At 01:30 on Monday" in re.sub(r"\s+", " ", shown)
    assert "0 0 * * *" in shown
    assert "never" in shown

    weekly, nightly = document("list")
    assert (weekly["job"], nightly["job"]) == ("audit-verify", "daily-reconciliation")
    due = datetime.fromisoformat(weekly["next_due_at"]).astimezone(ZoneInfo("America/Vancouver"))
    assert (due.weekday(), due.hour, due.minute) == (0, 1, 30)
    assert weekly["next_due_zone"] == "America/Vancouver"
    assert (nightly["places"], nightly["places_on"], nightly["own_schedules"]) == (2, 2, 0)
    assert (nightly["covers"], nightly["grace_seconds"], nightly["catch_up"]) == ("day", 1800.0, "all")


def test_list_shows_the_last_result_and_overdue_runs(engine: Engine, shops: None) -> None:
    now = utc_now()
    run_tick(engine, now - timedelta(days=2))
    run_tick(engine, now - timedelta(days=1))
    finish_runs(engine, "reconcile")

    _, nightly = document("list")

    assert {run["status"] for run in nightly["last_runs"]} == {"done"}
    assert len(nightly["last_runs"]) == 2
    assert nightly["overdue"] is True  # the night is still open
    assert "OVERDUE" in fleet("list").output
    assert document("list", "--shop", "west")[0]["job"] == "daily-reconciliation"
    assert len(document("list", "--shop", "west")) == 1


def test_jobs_are_known_before_any_beat_ran(engine: Engine) -> None:
    from beat_schedule import JOBS

    assert {job["job"] for job in document("list")} == {job.name for job in JOBS}


def test_next_shows_five_in_each_zone_and_in_utc(engine: Engine, shops: None) -> None:
    planned = document("next", "daily-reconciliation")

    assert [one["due_at"] for one in planned] == sorted(one["due_at"] for one in planned)
    for slug, zone in (("west", "America/Los_Angeles"), ("east", "Asia/Tokyo")):
        own_runs = [one for one in planned if one["shops"] == [slug]]
        assert len(own_runs) == 5
        locals_ = [datetime.fromisoformat(one["due_at"]).astimezone(ZoneInfo(zone)) for one in own_runs]
        assert {(at.hour, at.minute) for at in locals_} == {(0, 0)}
        assert [one["period"] for one in own_runs] == [f"{at.date() - timedelta(days=1)}" for at in locals_]
    shown = fleet("next", "daily-reconciliation", "--shop", "east", "--count", "1").output
    assert "JST (Asia/Tokyo)" in shown
    assert "15:00" in shown


def test_next_without_a_job_shows_the_earliest_runs(engine: Engine, shops: None) -> None:
    planned = document("next")

    assert len(planned) == 5
    assert planned[0]["job"] == "daily-reconciliation"


def test_times_are_changed_at_a_shop_and_set_back(engine: Engine, shops: None) -> None:
    dry = fleet("set", "daily-reconciliation", "--shop", "west", "--at", "30 4 * * *", "--dry-run")
    assert "would be run at 04:30" in dry.output.lower()
    assert runs(engine, "select * from job_overrides") == []

    shown = fleet("set", "daily-reconciliation", "--shop", "west", "--at", "30 4 * * *", "--as", "ada").output
    assert "daily-reconciliation at west is run at 04:30" in shown.lower()
    assert "04:30 P" in shown
    assert document("list")[1]["own_schedules"] == 1
    assert {one["shops"][0] for one in document("next", "daily-reconciliation")} == {"west", "east"}
    summaries = runs(engine, "select staff_label, summary from audit_events e join audit_mutations m on true")
    assert summaries == [("ada", "daily-reconciliation has the schedule '30 4 * * *' at west")]

    fleet("set", "daily-reconciliation", "--shop", "west", "--default")
    assert document("list")[1]["own_schedules"] == 0


def test_pause_and_resume_hold_from_the_next_tick_on(engine: Engine, shops: None) -> None:
    assert "is paused" in fleet("pause", "daily-reconciliation", "--reason", "stocktaking").output
    assert "No runs ahead" in fleet("next", "daily-reconciliation").output
    assert document("list")[1]["places_on"] == 0

    fleet("resume", "daily-reconciliation", "--shop", "west")
    assert [one["shops"] for one in document("next", "daily-reconciliation", "--count", "1")] == [["west"]]
    fleet("resume", "daily-reconciliation")
    assert document("list")[1]["places_on"] == 2
    shown = [row[0] for row in runs(engine, "select summary from audit_mutations order by event_id")]
    assert shown[0] == "daily-reconciliation is switched off: stocktaking"


def test_resumed_shop_follows_the_job_again(engine: Engine, shops: None) -> None:
    fleet("pause", "daily-reconciliation", "--shop", "west")
    assert "paused at west" in re.sub(r"\s+", " ", fleet("list").output)
    fleet("resume", "daily-reconciliation", "--shop", "west")
    fleet("pause", "daily-reconciliation")

    assert document("list")[1]["places_on"] == 0


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["next", "nothing"], "'nothing' should be one of audit-verify, daily-reconciliation"),
        (["history", "nothing"], "'nothing' should be one of"),
        (["run", "nothing"], "'nothing' should be one of"),
        (["run", "daily-reconciliation", "--shop", "nowhere"], "nowhere"),
        (["run", "audit-verify", "--shop", "west"], "leave the shop 'west' out"),
        (["run", "daily-reconciliation", "--period", "yesterday"], "should be a day such as"),
        (["run", "daily-reconciliation", "--period", "2999-01-01"], "is not over yet"),
        (["set", "daily-reconciliation", "--at", "0 25 * * *"], "should have five fields"),
        (["set", "daily-reconciliation"], "give either --at"),
        (["set", "daily-reconciliation", "--at", "0 1 * * *", "--default"], "give either --at"),
        (["pause", "audit-verify", "--shop", "west"], "leave the shop 'west' out"),
        (["history", "--status", "good"], "is not one of"),
    ],
)
def test_wrong_usage_exits_2_and_names_what_is_right(
    engine: Engine, shops: None, arguments: list[str], shown: str
) -> None:
    result = fleet(*arguments)

    assert result.exit_code == 2, result.output
    assert shown in re.sub(r"\s+", " ", result.output)
    assert runs(engine, RUNS) == []


def test_run_says_what_it_would_do_and_does_nothing(engine: Engine, shops: None) -> None:
    result = fleet("run", "daily-reconciliation", "--period", PERIOD, "--dry-run")

    assert result.exit_code == 0
    assert result.output.count("it would start") == 2
    assert runs(engine, RUNS) == []
    assert runs(engine, "select * from work_queue") == []


def test_run_in_its_own_process_prints_its_stats(engine: Engine, shops: None) -> None:
    ran = fleet_process("run", "daily-reconciliation", "--shop", "west", "--period", PERIOD, "--as", "timer")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    *lines, last = ran.stdout.splitlines()
    figures = json.loads(last)
    assert figures.pop("duration_seconds") >= 0
    stats = figures.pop("stats")
    assert (stats["ours"], stats["theirs"], stats["breaks"], stats["audit_findings"]) == (0, 0, 0, 0)
    assert figures == {
        "job": "daily-reconciliation",
        "shop": "west",
        "period": PERIOD,
        "status": "done",
        "run": 1,
    }
    events = [json.loads(line) for line in lines]
    assert events[0]["event"] == "run_started"
    assert (events[-1]["event"], events[-1]["status"]) == ("run_finished", "done")
    assert runs(engine, RUNS) == [(1, PERIOD, "done", "cli", "timer")]
    assert runs(engine, "select status, result, locked_by from work_queue") == [("done", "no_stripe", None)]
    labels = runs(engine, "select staff_label, action from audit_events order by id")
    assert labels == [("timer", "job.run"), ("job daily-reconciliation", "daily-reconciliation")]


def test_every_shop_is_run_and_the_last_line_sums_up(engine: Engine, shops: None) -> None:
    result = fleet("run", "daily-reconciliation", "--period", PERIOD)

    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["status"], figures["period"], figures["stats"]) == ("done", PERIOD, {"done": 2})
    assert [(run["shop"], run["status"]) for run in figures["runs"]] == [("west", "done"), ("east", "done")]

    again = fleet("run", "daily-reconciliation", "--period", PERIOD)
    assert again.exit_code == 0
    assert json.loads(again.stdout.splitlines()[-1])["status"] == "already_done"
    assert runs(engine, "select count(*) from work_queue where topic = 'reconcile'") == [(2,)]

    forced = fleet("run", "daily-reconciliation", "--shop", "east", "--period", PERIOD, "--force")
    assert json.loads(forced.stdout.splitlines()[-1])["status"] == "done"
    assert runs(engine, "select count(*) from work_queue where topic = 'reconcile'") == [(3,)]


def add_payment_without_key(engine: Engine) -> None:
    """Record a payment of the shop ``west``, which has no Stripe key."""
    with transaction(engine) as tx:
        tx.execute(
            text(
                "insert into transactions (shop_id, provider_id, kind, status, amount_cents, currency, "
                "occurred_at, version_at) values (1, 'ch_1', 'charge', 'paid', 1000, 'CAD', :at, :at)"
            ),
            {"at": datetime(2026, 11, 19, 20, tzinfo=UTC)},
        )


def test_failed_run_is_reported_to_sentry_with_the_slug_of_its_shop(engine: Engine, shops: None) -> None:
    add_payment_without_key(engine)
    sink = SentrySink()

    done = fleet_process(
        "run", "daily-reconciliation", "--shop", "west", "--period", PERIOD, SENTRY_DSN=sink.dsn
    )

    assert done.returncode == 1
    event = sink.next_event()
    sink.close()
    assert event["message"] == "reconcile is dead: stripe.no_key"
    assert (event["tags"]["shop"], event["tags"]["component"]) == ("west", "jobs")


def test_failed_run_exits_1_and_says_why(engine: Engine, shops: None) -> None:
    add_payment_without_key(engine)

    result = fleet("run", "daily-reconciliation", "--period", PERIOD)

    assert result.exit_code == 1
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["status"], figures["stats"]) == ("failed", {"failed": 1, "done": 1})
    assert "stripe.no_key" in figures["runs"][0]["error"]
    assert "failed: stripe.no_key" in result.stderr
    assert runs(engine, RUNS)[0][2] == "failed"


def test_run_that_waits_for_a_retry_exits_1_and_says_when(engine: Engine, shops: None) -> None:
    with transaction(engine) as tx:
        record_secret(tx, 1, "stripe-key", "sk_test_" + "a" * 24, utc_now())
    with settings_of(STRIPE_API_BASE="http://127.0.0.1:9"):  # no server there
        result = fleet("run", "daily-reconciliation", "--shop", "west", "--period", PERIOD)

    assert result.exit_code == 1
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["status"] == "waiting"
    assert datetime.fromisoformat(figures["next_try_at"]) > utc_now()
    assert "waits for another try in" in result.stderr
    assert runs(engine, RUNS)[0][2] == "running"
    assert runs(engine, "select status, locked_by from work_queue") == [("error", None)]


def test_run_locked_by_a_worker_is_left_to_it(engine: Engine, shops: None) -> None:
    fleet_work = "select id from work_queue where topic = 'reconcile'"
    with transaction(engine) as tx:
        trigger_job(tx, NIGHTLY, "west", PERIOD, origin="beat", by="beat", now=utc_now())
        ids = list(tx.execute(text(fleet_work)).scalars())
        assert lease_items(tx, TOPICS["reconcile"], ids, "worker-7", utc_now()) == set(ids)

    result = fleet("run", "daily-reconciliation", "--shop", "west", "--period", PERIOD)

    assert result.exit_code == 1
    assert json.loads(result.stdout.splitlines()[-1])["status"] == "running"
    assert "is locked by worker-7" in result.stderr
    assert runs(engine, "select status, locked_by from work_queue") == [("pending", "worker-7")]


def test_run_that_waits_for_a_worker_is_taken_over(engine: Engine, shops: None) -> None:
    now = utc_now()
    run_tick(engine, now - timedelta(days=1))
    run_tick(engine, now)
    period = max(row[1] for row in runs(engine, RUNS) if row[0] == 1)

    result = fleet("run", "daily-reconciliation", "--shop", "west", "--period", period)

    assert result.exit_code == 0, result.output
    assert [row for row in runs(engine, RUNS) if row[2] == "done"] == [(1, period, "done", "beat", "beat")]


def test_no_worker_takes_what_this_process_runs(engine: Engine, shops: None) -> None:
    with transaction(engine) as tx:
        triggered = trigger_job(tx, NIGHTLY, "", PERIOD, origin="cli", by="ada", now=utc_now())
        ids = [one.ref.id for one in triggered if one.ref]
        lease_items(tx, TOPICS["reconcile"], ids, "cli", utc_now())

    assert finish_runs(engine, "reconcile") == 0

    with transaction(engine) as tx:  # if this process dies, workers continue
        assert free_expired(tx, utc_now() + timedelta(minutes=2)) == 2
    with transaction(engine) as tx:
        tx.execute(text("update work_queue set next_retry_at = now()"))
    assert finish_runs(engine, "reconcile") == 2


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_stop_signal_leaves_the_runs_to_workers(
    engine: Engine, shops: None, signal_number: signal.Signals
) -> None:
    with transaction(engine) as tx:
        record_secret(tx, 1, "stripe-key", "sk_test_" + "a" * 24, utc_now())
    with Web() as stripe, settings_of(STRIPE_API_BASE=stripe.url):
        stripe.may_answer.clear()
        with subprocess.Popen(
            [FLEET, "jobs", "run", "daily-reconciliation", "--period", PERIOD],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert stripe.received.wait(30)
            process.send_signal(signal_number)
            assert process.wait(20) == 1

    held = runs(
        engine, "select shop_id, locked_by is not null from work_queue where topic = 'reconcile' order by 1"
    )
    assert held == [(1, False), (2, False)]
    assert finish_runs(engine, "reconcile") == 2


def test_history_shows_the_stats_of_runs(engine: Engine, shops: None) -> None:
    fleet("run", "daily-reconciliation", "--shop", "west", "--period", PERIOD, "--as", "ada")

    (run,) = document("history", "daily-reconciliation", "--shop", "west", "--status", "done")
    assert (run["shop"], run["period"], run["status"], run["origin"], run["started_by"]) == (
        "west", PERIOD, "done", "cli", "ada",
    )  # fmt: skip
    assert run["duration_seconds"] >= 0
    shown = re.sub(r"\s+", " ", fleet("history").output)
    assert "0 ours" in shown
    assert "ada (cli)" in shown
    assert fleet("history", "audit-verify").output.strip() == "No runs match."
