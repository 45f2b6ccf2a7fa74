"""A job that is run at all shops: each starts once, or is named with the cause."""

from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.accounts.people import change_roles, get_person
from services.accounts.roles import Role
from services.bulk import handler
from services.bulk.kinds import GONE, NO_ROLE
from services.bulk.runs_of_jobs import plan_run_everywhere, start_run_everywhere
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.jobs.store import get_job
from tests.bulk.test_chunks import EMAIL, add_operator, list_skipped, read, run
from tests.health.fleet_rows import add_run
from tests.jobs.job_rows import add_jobs, add_shops, make_job, runs

JOB = "daily-reconciliation"
PERIOD = "2026-11-20"
RUNS = "select shop_id, status, origin, work_id is not null from job_runs order by shop_id"
SLUGS = ("harbour", "linden", "mill", "orchard", "pier")


@pytest.fixture(autouse=True)
def shops(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five shops: the run is done at the second, failed at the third, open at the fourth."""
    monkeypatch.setattr(handler, "CHUNK_ROWS", {"work": 3, "events": 2, "jobs": 2})
    add_shops(engine, utc_now(), **dict.fromkeys(SLUGS, "Europe/Berlin"))
    add_jobs(engine, utc_now(), make_job())
    with transaction() as tx:
        for shop_id, status in ((2, "done"), (3, "failed"), (4, "running")):
            add_run(tx, JOB, PERIOD, status, shop_id=shop_id)


def start(user_id: int, *, again: bool = False, period: str = PERIOD) -> int:
    with transaction() as tx:
        job, now = get_job(tx, JOB), utc_now()
        plan = plan_run_everywhere(tx, job, period, now, again=again)
        author: dict[str, Any] = {"by": EMAIL, "now": now, "reason": "a test"}
        return start_run_everywhere(tx, job, period, plan, user_id, again=again, **author)[0]


def list_started(engine: Engine) -> list[int]:
    return [
        shop_id for shop_id, _, origin, has_work in runs(engine, RUNS) if origin == "console" and has_work
    ]


@pytest.mark.parametrize(("again", "started"), [(False, [1, 3, 5]), (True, [1, 2, 3, 5])])
def test_a_run_starts_where_none_is_open_or_done(engine: Engine, again: bool, started: list[int]) -> None:
    number = start(add_operator(), again=again)
    run(engine)

    assert list_started(engine) == started
    found = read(number)
    assert (found.status, found.changed_count) == ("done", len(started))
    causes = ["its run is running", *([] if again else ["its run is done"])]
    assert found.skipped == {f"{cause}, at other shops": "1 row" for cause in causes}
    run(engine)
    assert len(runs(engine, "select id from job_runs")) == 5, "a second delivery starts nothing"
    with pytest.raises(InputInvalid, match="no row can be started"):
        start(found.user_id)


def test_what_changed_meanwhile_is_named(engine: Engine) -> None:
    user_id = add_operator({None: Role.OPERATOR})
    number = start(user_id)
    with transaction() as tx:
        add_run(tx, JOB, PERIOD, "done", shop_id=1)
        removed = 'update shop_config set settings = settings || \'{"removed_at": "2026-11-21T00:00:00Z"}\''
        tx.execute(text("insert into shop_config (shop_id) values (5) on conflict do nothing"))
        tx.execute(text(f"{removed} where shop_id = 5"))
        roles = {1: Role.OPERATOR, 5: Role.OPERATOR}
        change_roles(tx, get_person(tx, EMAIL), lambda _: roles, by="test", now=utc_now())
    run(engine)

    assert list_started(engine) == []
    assert list_skipped(number) == {1: "its run is done", 3: NO_ROLE, 5: GONE}


def test_a_period_that_is_not_over_is_refused() -> None:
    with pytest.raises(InputInvalid, match="not over yet"):
        start(add_operator(), period="2199-01-01")
