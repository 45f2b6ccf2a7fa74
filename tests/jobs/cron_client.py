"""The console with two shops and two jobs, for tests of ``POST /cron/<job>``."""

from datetime import UTC, datetime

from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from services.console.app import make_app
from services.core.settings import Settings
from services.jobs.conditions import count_conditions
from services.jobs.definition import FLEET_ZONE
from services.ledger.health_check import HealthCheck
from tests.jobs.job_rows import add_jobs, add_shops, make_job

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "tests-only-cron-secret-" + "c" * 32
SHOWN = {"X-Cron-Secret": SECRET}
FLEET_JOB = make_job(name="audit-verify", topic="audit_verify", zone=FLEET_ZONE, per_shop=False)
RUNS = "select job, shop_id, period, status, origin, started_by from job_runs order by job, shop_id"


def open_client(settings: Settings) -> FlaskClient:
    return make_app(settings, HealthCheck(count_conditions, ping=lambda _: 0.2)).test_client()


def open_client_with_jobs(engine: Engine, settings: Settings) -> FlaskClient:
    """Return a client of the console over two shops and two jobs."""
    add_shops(engine, LONG_AGO, west="America/Los_Angeles", east="Asia/Tokyo")
    add_jobs(engine, LONG_AGO, make_job(), FLEET_JOB)
    return open_client(settings)


def post(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    return client.post(path, headers=headers or SHOWN)
