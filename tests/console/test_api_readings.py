"""``/api/v1/queues`` and ``/api/v1/jobs``: what they show, to whom."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from beat_schedule import JOBS
from services.accounts.roles import Role
from services.ledger.topics import QUEUES, TOPICS
from tests.console.people import make_console, sign_in_as


def test_each_queue_has_its_topics(client: FlaskClient) -> None:
    found = client.get("/api/v1/queues").json

    assert {one["name"] for one in found["queues"]} == set(QUEUES)
    assert {topic["name"] for one in found["queues"] for topic in one["topics"]} == set(TOPICS)


def test_each_job_has_its_places_and_is_filtered(client: FlaskClient) -> None:
    found = client.get("/api/v1/jobs").json["jobs"]
    of_shops = {job.name for job in JOBS if job.per_shop}
    harbour = client.get("/api/v1/jobs?shop=harbour&state=fine").json["jobs"]

    assert {one["job"] for one in found} == {job.name for job in JOBS}
    assert {one["job"] for one in harbour} <= of_shops
    assert {(one["shop"], one["state"]) for one in harbour} == {("harbour", "fine")}


@pytest.mark.parametrize("query", ["shop=nowhere", "job=none", "state=bad", "colour=red", "shop="])
def test_a_wrong_filter_of_jobs_is_refused(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/api/v1/jobs?{query}")

    assert (answer.status_code, answer.json["error"]) == (422, "invalid_filter")


def test_a_person_of_one_shop_sees_its_places_alone(engine: Engine, ids: list[int]) -> None:
    person = sign_in_as(make_console(engine), Role.VIEWER, shops={ids[0]: Role.VIEWER})

    found = person.get("/api/v1/jobs").json["jobs"]

    assert {one["shop"] for one in found} == {"harbour"}
    assert person.get("/api/v1/jobs?shop=orchard").status_code == 422
