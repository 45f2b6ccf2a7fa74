"""``fleet jobs`` commands other than ``run``, with a real ledger."""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from tests.jobs.job_commands import PERIOD, RUNS, document, fleet
from tests.jobs.job_rows import run_tick, runs
from tests.jobs.work import finish_runs


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
    with transaction(engine) as tx:  # or each night since LONG_AGO is a run
        tx.execute(text("update jobs set first_seen_at = :at"), {"at": now - timedelta(days=4)})
        tx.execute(text("update shops set created_at = :at"), {"at": now - timedelta(days=4)})
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
    assert "+09:00 (Asia/Tokyo)" in " ".join(shown.split())
    assert "15:00" in shown


def test_next_without_a_job_shows_the_earliest_runs(engine: Engine, shops: None) -> None:
    planned = document("next")

    times = [datetime.fromisoformat(one["due_at"]) for one in planned]
    assert times == sorted(times)
    assert len(planned) == 5
    assert "daily-reconciliation" in {one["job"] for one in planned}


def test_times_are_changed_at_a_shop_and_set_back(engine: Engine, shops: None) -> None:
    dry = fleet("set", "daily-reconciliation", "--shop", "west", "--at", "30 4 * * *", "--dry-run")
    assert "would be run at 04:30" in dry.output.lower()
    assert runs(engine, "select * from job_overrides") == []

    shown = fleet("set", "daily-reconciliation", "--shop", "west", "--at", "30 4 * * *", "--as", "ada").output
    assert "daily-reconciliation at west is run at 04:30" in shown.lower()
    assert "04:30 -0" in shown
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
    for shop in ([], ["--shop", "east"]):
        assert "was not changed: it is run at " in fleet("resume", "daily-reconciliation", *shop).output
    assert len(shown) == len(runs(engine, "select summary from audit_mutations"))


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
        (["history", "--status", "good"], "should be one of pending"),
    ],
)
def test_wrong_usage_exits_2_and_names_what_is_right(
    engine: Engine, shops: None, arguments: list[str], shown: str
) -> None:
    result = fleet(*arguments)

    assert result.exit_code == 2, result.output
    assert shown in re.sub(r"\s+", " ", result.output)
    assert runs(engine, RUNS) == []


def test_history_shows_the_stats_of_runs(engine: Engine, shops: None) -> None:
    fleet("run", "daily-reconciliation", "--shop", "west", "--period", PERIOD, "--as", "ada")

    (run,) = document("history", "daily-reconciliation", "--shop", "west", "--status", "done")
    assert (run["shop"], run["period"], run["status"], run["origin"], run["started_by"]) == (
        "west", PERIOD, "done", "cli", "ada",
    )  # fmt: skip
    assert run["duration_seconds"] >= 0
    shown = re.sub(r"\s+", " ", fleet("history").output)
    assert "ours: 0" in shown
    assert "ada (cli)" in shown
    assert fleet("history", "audit-verify").output.strip() == "No run matches."
