"""``/api/v1/scan``, ``queues``, ``jobs``, ``reports`` and ``letters``: what they show, to whom."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from beat_schedule import JOBS
from services.accounts.roles import Role
from services.core.db import transaction
from services.ledger.topics import QUEUES, TOPICS
from tests.console.people import make_console, sign_in_as
from tests.console.test_other_shops import add_both_shops

ADD_REPORT = """
insert into reports (shop_id, name, kind, covers, schedule, recipients, formats, overtime, week_begins,
                     created_at, changed_at)
values (:shop_id, 'Payroll', 'payroll', 'week', '0 6 * * 1', '{}', '{}', 'CA-BC', 'monday', now(), now())
"""
ADD_LETTER = """
insert into owner_letters (shop_id, week, subject, body, drafted_at, send_at)
values (:shop_id, '2026-W47', 'a', 'b', now(), now())
"""
ADD_SECRET = """
insert into shop_secrets (shop_id, name, sealed, created_at) values (1, 'stripe-key', 'x', now())
"""


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


def test_the_scan_has_the_verdict_and_a_line_for_each_shop(engine: Engine, client: FlaskClient) -> None:
    found = client.get("/api/v1/scan").json
    one = sign_in_as(make_console(engine), Role.VIEWER, shops={1: Role.VIEWER}, email="one@example.com")

    assert [line["shop"] for line in found["shops"]] == [None, "harbour", "orchard"]
    assert found["verdict"]["text"]
    assert set(found["shops"][1]["cells"]["jobs"]) == {"state", "text", "since", "path"}
    assert [line["shop"] for line in client.get("/api/v1/scan?shop=harbour").json["shops"]] == ["harbour"]
    assert client.get("/api/v1/scan?state=bad").status_code == 422
    assert [line["shop"] for line in one.get("/api/v1/scan").json["shops"]] == ["harbour"]


def test_reports_and_letters_are_those_of_the_persons_shops(engine: Engine, ids: list[int]) -> None:
    with engine.begin() as tx:
        for shop_id in ids:
            for statement in (ADD_REPORT, ADD_LETTER):
                tx.execute(text(statement), {"shop_id": shop_id})
    person = sign_in_as(make_console(engine), Role.VIEWER, shops={ids[0]: Role.VIEWER})

    (report,) = person.get("/api/v1/reports").json["reports"]
    (letter,) = person.get("/api/v1/letters?shop=harbour").json["letters"]

    assert (report["shop"], report["name"], report["last_period"]) == ("harbour", "Payroll", None)
    assert (letter["shop"], letter["state"], letter["body"]) == ("harbour", "draft", "b")
    for path in ("reports", "letters"):
        assert person.get(f"/api/v1/{path}?shop=orchard").status_code == 422


def test_connections_and_dead_groups_are_those_of_the_pages(engine: Engine) -> None:
    add_both_shops(engine)
    with transaction() as tx:
        tx.execute(text(ADD_SECRET))
    everybody = sign_in_as(make_console(engine), Role.VIEWER)
    one = sign_in_as(make_console(engine), Role.VIEWER, email="one@example.com", shops={1: Role.VIEWER})

    dead = [(line["shop"], line["count"]) for line in everybody.get("/api/v1/dead").json["dead"]]
    assert dead == [("harbour", 3), ("linden", 1)]
    assert {line["shop"] for line in one.get("/api/v1/dead").json["dead"]} == {"harbour"}
    shown = one.get("/api/v1/connections").json["connections"]
    assert [(line["shop"], line["provider"], line["state"]) for line in shown] == [
        ("harbour", "stripe", "unknown")
    ]
    assert shown[0]["secrets"][0]["name"] == "stripe-key"
    assert "sealed" not in shown[0]["secrets"][0]
    assert len(everybody.get("/api/v1/connections").json["connections"]) > 1
    assert everybody.get("/api/v1/connections?state=red").json["connections"] == []
    assert one.get("/api/v1/dead?shop=linden").status_code == 422
