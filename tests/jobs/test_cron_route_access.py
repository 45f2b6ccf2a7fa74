"""``POST /cron/<job>``: who may start a job, with the real app and database."""

from dataclasses import replace

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.datastructures import Headers

from services.console import answers
from services.console.answers import has_cron_secret
from services.core.settings import Settings
from tests.jobs.cron_client import RUNS, SECRET, open_client, open_client_with_jobs
from tests.jobs.job_rows import runs


@pytest.fixture
def client(engine: Engine, settings: Settings) -> FlaskClient:
    return open_client_with_jobs(engine, settings)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Cron-Secret": SECRET},
        {"X-Internal-Secret": SECRET},
        {"Authorization": f"Bearer {SECRET}"},
        {"Authorization": f"bearer {SECRET}", "X-Cron-Secret": "wrong"},
    ],
)
def test_the_secret_is_taken_from_any_of_three_headers(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post("/cron/audit-verify", headers=headers).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Cron-Secret": ""},
        {"X-Cron-Secret": SECRET[:-1]},
        {"X-Cron-Secret": SECRET + "x"},
        {"X-Internal-Secret": "wrong"},
        {"Authorization": SECRET},
        {"Authorization": f"Basic {SECRET}"},
        {"X-Cron-Secret": "ü" * 9},
    ],
)
@pytest.mark.parametrize("path", ["/cron/audit-verify", "/cron/nothing", "/api/v1/internal/run-due-reports"])
def test_wrong_secret_starts_nothing_and_reveals_nothing(
    client: FlaskClient, engine: Engine, headers: dict[str, str], path: str
) -> None:
    answer = client.post(path, headers=headers)

    assert answer.status_code == 403
    assert answer.get_json()["error"] == "forbidden"
    assert SECRET not in answer.text
    assert answer.headers["X-Request-Id"]
    assert runs(engine, RUNS) == []


@pytest.mark.parametrize("shown", ["", "anything"])
def test_an_empty_secret_refuses_all(client: FlaskClient, settings: Settings, shown: str) -> None:
    closed = open_client(replace(settings, cron_secret=""))

    answer = closed.post("/cron/audit-verify", headers={"X-Cron-Secret": shown})

    assert answer.status_code == 403
    assert "CRON_SECRET is not set" in answer.get_json()["detail"]


def test_previous_secret_is_accepted_until_it_is_removed(client: FlaskClient, settings: Settings) -> None:
    rotated = replace(settings, cron_secret="n" * 32, cron_secret_previous=SECRET)
    headers = {"X-Cron-Secret": SECRET}

    assert open_client(rotated).post("/cron/audit-verify", headers=headers).status_code == 202
    removed = replace(rotated, cron_secret_previous="")
    assert open_client(removed).post("/cron/audit-verify", headers=headers).status_code == 403
    assert open_client(replace(rotated, cron_secret="")).post("/cron/x", headers=headers).status_code == 403


def test_secrets_are_compared_in_constant_time_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = answers.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(answers, "compare_digest", compare)
    headers = Headers({"X-Cron-Secret": "right", "X-Internal-Secret": "wrong", "Authorization": "Bearer no"})

    assert has_cron_secret(headers, ["right"])
    assert compared == [(b"right", b"right"), (b"wrong", b"right"), (b"no", b"right")]


def test_non_ascii_secret_is_compared_as_bytes() -> None:
    as_werkzeug_reads_it = "schlüssel".encode().decode("latin-1")

    assert has_cron_secret(Headers({"X-Cron-Secret": as_werkzeug_reads_it}), ["schlüssel"])
