"""The request budget of a key: shared by all threads and processes, nearly used up, never exceeded."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from services.conversations import budget
from services.conversations.budget import BURST, WINDOW_SECONDS, check_budget, make_bucket, take_token
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Deferred
from services.ledger.rate_limits import block_bucket, ensure_bucket, reserve_calls
from services.ledger.work import FLEET
from tests.fakes.settings import settings_of

KEY = "ntn_acme"
BUCKET = make_bucket(KEY)


@pytest.fixture(autouse=True)
def _plan(engine: Engine) -> Iterator[None]:
    with settings_of(NOTION_REQUESTS_PER_MINUTE="180"):
        yield


def test_no_window_has_more_requests_than_the_budget_and_few_are_left_out(engine: Engine) -> None:
    """Ten minutes of work that always waits, on a clock of the test."""
    rate = (180 - BURST - budget.RESERVE) / WINDOW_SECONDS
    now = start = utc_now()
    made: list[float] = []
    with transaction(engine) as tx:
        ensure_bucket(tx, FLEET, BUCKET, maximum=BURST, restore_per_second=rate, now=now)
        while now < start + timedelta(minutes=10):
            waits = reserve_calls(tx, FLEET, BUCKET, 1, now)
            if waits:
                now += waits[0]
            else:
                made.append((now - start).total_seconds())
    most = max(sum(at <= one < at + WINDOW_SECONDS for one in made) for at in made)
    assert most <= 180
    assert len(made) / 1800 > 0.95


def test_threads_take_no_token_twice(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take_token, [BUCKET] * (BURST + 4)))
    with transaction(engine) as tx:
        assert reserve_calls(tx, FLEET, BUCKET, 1, utc_now()) != []


def test_a_blocked_budget_defers_at_once_and_before_work_is_prepared(engine: Engine) -> None:
    take_token(BUCKET)
    with transaction(engine) as tx:
        block_bucket(tx, FLEET, BUCKET, timedelta(seconds=40), utc_now(), cost_points=1.0)
    with pytest.raises(Deferred) as caught:
        take_token(BUCKET)
    assert caught.value.wait is not None
    assert timedelta(seconds=35) < caught.value.wait < timedelta(seconds=41)
    with transaction(engine) as tx, pytest.raises(Deferred, match="budget is used"):
        check_budget(tx, KEY)
    with transaction(engine) as tx:
        check_budget(tx, "ntn_other")


def test_the_key_is_not_in_the_database(engine: Engine) -> None:
    take_token(BUCKET)
    with transaction(engine) as tx:
        (found,) = tx.exec_driver_sql("select bucket from rate_limits").scalars().all()
    assert KEY not in found


def test_a_changed_plan_counts_at_once(engine: Engine) -> None:
    take_token(BUCKET)
    with settings_of(NOTION_REQUESTS_PER_MINUTE="600"):
        take_token(BUCKET)
    with transaction(engine) as tx:
        found = tx.exec_driver_sql("select restore_per_second from rate_limits").scalar_one()
    assert found == (600 - BURST - budget.RESERVE) / 60
