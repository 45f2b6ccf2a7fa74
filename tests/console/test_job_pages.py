"""``/jobs`` and ``/jobs/<job>``: what runs when, and changes of it."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.console.job_lines import STATES, describe_catch_up
from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.definition import FLEET_ZONE, CatchUp
from services.jobs.store import change_job, get_job, list_schedules
from services.shops.shops import get_shop
from tests.bulk.test_chunks import run as run_chunks
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.health.fleet_rows import add_run
from tests.jobs.job_rows import add_jobs, add_shops, make_job, run_tick, runs

JOB = "daily-reconciliation"
VERIFY = "audit-verify"
PAGE = f"/jobs/{JOB}"


def sign_in(engine: Engine, role: Role = Role.OPERATOR, **roles: Any) -> FlaskClient:
    """Add harbour (1), linden (2), a job of each shop and one of the fleet; sign in."""
    now = utc_now()
    add_shops(engine, now, harbour="America/Toronto", linden="Europe/Berlin")
    fleet = make_job(name=VERIFY, topic="audit_verify", per_shop=False, zone=FLEET_ZONE, schedule="0 6 * * 1")
    add_jobs(engine, now, make_job(), fleet)
    run_tick(engine, now)
    return sign_in_as(make_console(engine), role, **roles)


def post(client: FlaskClient, job: str = JOB, **values: str) -> str:
    """Change the job; return the page that follows."""
    form = {"csrf_token": read_csrf_token(client), "reason": "a test", **values}
    return client.post(f"/jobs/{job}/change", data=form, follow_redirects=True).text


def list_audited() -> list[tuple[str, int | None]]:
    with transaction() as tx:
        found = tx.execute(text("select action, shop_id from audit_events order by id"))
        return [(row.action, row.shop_id) for row in found if row.action.startswith("job.")]


def list_states(page: str) -> list[str]:
    """Return the states of the lines of a page."""
    cells = page.split('data-label="State"')[1:]
    return [cell.split(">", 1)[1].split("<", 1)[0].split(":")[0].strip() for cell in cells]


def test_a_line_has_the_schedule_in_words_and_the_zone_of_the_shop(engine: Engine) -> None:
    client = sign_in(engine, Role.VIEWER)
    with transaction() as tx:
        run = {"started_at": utc_now() - timedelta(hours=1, seconds=90)}
        add_run(tx, JOB, "2026-11-20", "done", shop_id=1, **run)

    page = client.get("/jobs").text

    assert "At 00:00 every day (America/Toronto)" in page
    assert "At 00:00 every day (Europe/Berlin)" in page
    assert "At 06:00 on Monday" in page
    assert "done for 2026-11-20" in page
    assert "90.0 s" in page
    assert list_states(page) == ["fine"] * 3
    assert list_states(client.get("/jobs?q=lind").text) == ["fine"]
    assert list_states(client.get(f"/jobs?job={JOB}").text) == ["fine"] * 2
    assert list_states(client.get("/jobs?state=failing").text) == []


def test_every_state_is_found_and_the_worst_is_first(engine: Engine) -> None:
    client = sign_in(engine, Role.VIEWER)
    now = utc_now()
    add_shops(engine, now, **dict.fromkeys(("late", "two", "one", "off"), "UTC"))
    with transaction() as tx:
        ids = {slug: get_shop(tx, slug).id for slug in ("harbour", "late", "two", "one", "off")}
        add_run(tx, JOB, "2026-11-20", "failed", shop_id=ids["harbour"])
        add_run(tx, JOB, "2026-11-20", "pending", shop_id=ids["late"], due_at=now - timedelta(days=1))
        for period in ("2026-11-19", "2026-11-20"):
            add_run(tx, JOB, period, "running", shop_id=ids["two"], due_at=now, started_at=now)
        add_run(tx, JOB, "2026-11-20", "running", shop_id=ids["one"], due_at=now, started_at=now)
        values = {"by": "ada", "now": now}
        change_job(tx, get_job(tx, JOB), get_shop(tx, "off"), {"enabled": False}, **values)

    page = client.get(f"/jobs?job={JOB}").text

    assert list_states(page) == [*STATES]
    assert list_states(client.get(f"/jobs?job={JOB}&state=paused,overdue").text) == ["overdue", "paused"]


def test_a_job_at_a_shop_has_its_next_runs_and_its_history(engine: Engine) -> None:
    client = sign_in(engine, Role.VIEWER)
    with transaction() as tx:
        for hours, period in ((30, "2026-11-19"), (6, "2026-11-20")):
            at = utc_now() - timedelta(hours=hours)
            run = {"due_at": at, "started_at": at, "ended_at": at + timedelta(minutes=hours)}
            add_run(tx, JOB, period, "done", shop_id=1, **run)
        add_run(tx, JOB, "2026-11-18", "done", shop_id=2)

    page = client.get(f"{PAGE}?shop=harbour").text

    assert page.split("<ol>")[1].split("</ol>")[0].count("<li>") == 5
    assert " UTC), for 20" in page
    assert "30 min" in page.split("<svg", 1)[1].split("</figure>")[0]
    assert "2026-11-18" not in page, "a run of another shop"
    assert "Run now" not in page, "a viewer"
    assert "Nothing is missed now." in page
    assert client.get(PAGE).status_code == 200
    assert client.get(f"/jobs/{VERIFY}").status_code == 200
    for path in ("/jobs/none", f"{PAGE}?shop=none", f"/jobs/{VERIFY}?shop=harbour", f"{PAGE}?shop=%00"):
        assert client.get(path).status_code == 404


def test_a_run_starts_after_its_effect_was_shown(engine: Engine) -> None:
    client = sign_in(engine)
    wanted = {"act": "run", "shop": "harbour", "period": "2026-01-05"}

    assert "The run for 2026-01-05 starts." in client.get(f"{PAGE}/change", query_string=wanted).text
    assert runs(engine) == []
    assert list_audited() == []
    assert "The run for 2026-01-05 starts." in post(client, **wanted)
    assert runs(engine) == [(JOB, 1, "2026-01-05", "pending")]
    assert "is open already: nothing changes" in post(client, **wanted)
    assert list_audited() == [("job.run", 1)]

    assert len(runs(engine)) == 1
    assert f"{VERIFY}: The run for" in post(client, VERIFY, act="run")


def test_a_run_that_is_done_runs_again_only_if_wanted(engine: Engine) -> None:
    client = sign_in(engine)
    with transaction() as tx:
        add_run(tx, JOB, "2026-01-05", "done", shop_id=1)
    wanted = {"act": "run", "shop": "harbour", "period": "2026-01-05"}

    assert "is done already" in post(client, **wanted)
    assert runs(engine) == [(JOB, 1, "2026-01-05", "done")]
    post(client, **wanted, again="1")
    assert runs(engine) == [(JOB, 1, "2026-01-05", "pending")]


def test_a_job_is_paused_and_resumed_at_one_shop(engine: Engine) -> None:
    client = sign_in(engine)

    assert "daily-reconciliation at harbour is paused." in post(client, act="pause", shop="harbour")
    assert "None: it is paused." in client.get(f"{PAGE}?shop=harbour").text
    with transaction() as tx:
        assert {one.slug: one.enabled for one in list_schedules(tx, JOB)} == {
            "harbour": False,
            "linden": True,
        }
    assert "It was paused already." in post(client, act="pause", shop="harbour")
    assert "is resumed." in post(client, act="resume", shop="harbour")
    assert list_audited() == [("job.change", 1)] * 2


def test_a_schedule_is_changed_by_an_admin_after_its_next_runs_were_shown(engine: Engine) -> None:
    client = sign_in(engine, Role.ADMIN)
    wanted = {"act": "schedule", "shop": "harbour", "schedule": "30 2 * * 1"}

    plan = client.get(f"{PAGE}/change", query_string=wanted).text
    assert "At 02:30 on Monday (America/Toronto)" in plan
    assert plan.split("<ol>")[1].split("</ol>")[0].count("Mon ") == 5
    assert list_audited() == []
    post(client, **wanted)
    with transaction() as tx:
        assert {one.slug: one.schedule for one in list_schedules(tx, JOB)} == {
            "harbour": "30 2 * * 1", "linden": "0 0 * * *",
        }  # fmt: skip
    assert "own schedule" in client.get("/jobs?q=harbour").text

    post(client, act="schedule", schedule="5 1 * * *")
    default = client.get(f"{PAGE}/change?act=schedule&shop=harbour&schedule=").text
    assert "At 01:05 every day" in default, "a shop has the schedule of the whole job"
    post(client, act="schedule", shop="harbour")
    with transaction() as tx:
        assert {one.schedule for one in list_schedules(tx, JOB)} == {"5 1 * * *"}


@pytest.mark.parametrize(
    "values",
    [
        {"act": "stop"},
        {"act": "run", "period": "2999-01-01"},
        {"act": "run", "period": "yesterday"},
        {"act": "schedule", "schedule": "every day"},
        {"act": "schedule", "schedule": "0 0 31 2 *"},
    ],
)
def test_a_wrong_value_is_named_and_changes_nothing(engine: Engine, values: dict[str, str]) -> None:
    client = sign_in(engine, Role.ADMIN)

    assert client.get(f"{PAGE}/change", query_string=values).status_code == 422
    assert 'class="notice bad"' in post(client, **values)
    assert "reason is empty" in post(client, act="pause", reason="")
    assert list_audited() == []


def test_a_role_at_one_shop_is_a_role_at_its_jobs_alone(engine: Engine) -> None:
    client = sign_in(engine, Role.VIEWER, shops={1: Role.OPERATOR})

    page = client.get("/jobs").text
    assert "linden" not in page
    assert VERIFY not in page.split("<tbody>")[1], "a job of the fleet"
    assert client.get(PAGE).location.endswith(f"/jobs?job={JOB}")
    assert client.get(f"{PAGE}?shop=linden").status_code == 404
    assert client.get(f"/jobs/{VERIFY}").status_code == 404
    form = {"csrf_token": read_csrf_token(client), "reason": "a test"}
    for values, status in (
        ({"act": "pause"}, 403),
        ({"act": "run", "shop": "linden"}, 404),
        ({"act": "schedule", "shop": "harbour", "schedule": "0 1 * * *"}, 403),
    ):
        assert client.post(f"{PAGE}/change", data=form | values).status_code == status
        assert client.get(f"{PAGE}/change", query_string=values).status_code == status
    assert list_audited() == []
    assert "is paused." in post(client, act="pause", shop="harbour")


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (CatchUp.ALL, "it starts 4 runs, skips 0."),
        (CatchUp.ONCE, "it starts 1 run, skips 0 and leaves 3 out."),
        (CatchUp.SKIP, "it starts 0 runs, skips 1 and leaves 3 out."),
    ],
)
def test_catch_up_is_what_beat_does_next(engine: Engine, catch_up: CatchUp, expected: str) -> None:
    begin = datetime.fromisoformat("2026-11-20T12:00+00:00")
    now = begin + timedelta(days=4)
    add_shops(engine, begin, harbour="UTC")
    add_jobs(engine, begin, make_job(catch_up=catch_up))
    run_tick(engine, begin)
    with transaction(engine) as tx:
        (one,) = list_schedules(tx, JOB)

    assert expected in describe_catch_up(one, now)
    started = run_tick(engine, now)
    assert f"it starts {started} run" in describe_catch_up(one, now)


def test_a_job_is_run_at_all_shops_as_a_bulk_action(engine: Engine) -> None:
    client = sign_in(engine)
    page = client.get(f"{PAGE}/change?act=run").text
    assert "A run starts at 2 shops" in page

    followed = post(client, act="run")
    assert "Bulk action 1" in followed
    assert JOB in followed
    run_chunks(engine)
    assert runs(engine, "select shop_id, origin from job_runs order by 1") == [(1, "console"), (2, "console")]
    assert f'href="/jobs/{JOB}"' in client.get("/bulk-actions/1").text
    assert "No run starts at any shop" in client.get(f"{PAGE}/change?act=run").text
    assert "no row can be started" in post(client, act="run"), "a second submit"
    assert client.get("/bulk-actions/new?list=jobs&action=run&shop=harbour").status_code == 422


def test_an_operator_of_one_shop_runs_a_job_at_it_alone(engine: Engine) -> None:
    client = sign_in(engine, Role.VIEWER, shops={1: Role.OPERATOR})

    assert client.get(f"{PAGE}/change?act=run").status_code in (302, 403)
    post(client, act="run")
    assert runs(engine, "select shop_id from job_runs") == []
