"""Quo's API over real HTTP: windows and pages of lists, and errors by what to do next."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from services.core.errors import Deferred, Misconfigured, Refused, RetryLater
from services.providers.call_outcomes import collect_calls
from services.providers.quo_api import NOT_FOUND, Quo
from tests.fakes.web import HANGS_UP, Answer, Web

SAMPLES = Path(__file__).parents[3] / "shared/samples/openphone/api_2026-03-30"
KEY = "quo-key-1"
SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as started:
        yield started


@pytest.fixture
def quo(web: Web) -> Quo:
    return Quo(web.url, KEY)


def page(*ids: str, cursor: str | None = None, at: str = "2026-11-20T00:00:00Z") -> Answer:
    rows = [{"id": one, "createdAt": at} for one in ids]
    return Answer(body=json.dumps({"data": rows, "nextCursor": cursor}).encode())


@pytest.mark.parametrize(("name", "path"), [("list_calls", "/calls"), ("list_messages", "/messages")])
def test_a_window_is_read_page_by_page_with_the_raw_key(web: Web, quo: Quo, name: str, path: str) -> None:
    web.answers[:] = [page("AC1", "AC2", cursor="c-1"), page("AC3", cursor="c-2"), page()]
    assert [one["id"] for one in getattr(quo, name)(SINCE, UNTIL)] == ["AC1", "AC2", "AC3"]
    assert web.requests[0].headers["authorization"] == KEY
    assert web.requests[0].headers["quo-api-version"] == "2026-03-30"
    assert {urlsplit(one.path).path for one in web.requests} == {path}
    assert parse_qs(urlsplit(web.requests[1].path).query) == {
        "createdAfter": ["2026-10-31T23:59:59.000Z"], "createdBefore": ["2026-11-21T00:00:01.000Z"],
        "limit": ["50"], "after": ["c-1"],
    }  # fmt: skip


def test_a_list_that_ignores_the_window_ends_at_its_first_older_object(web: Web, quo: Quo) -> None:
    web.answers[:] = [
        page("AC1", cursor="c-1", at="2026-11-22T00:00:00Z"), page("AC2", cursor="c-2"),
        page("AC3", cursor="c-3", at="2026-10-31T23:59:59Z"),
    ]  # fmt: skip
    assert [one["id"] for one in quo.list_calls(SINCE, UNTIL)] == ["AC2"]
    assert len(web.requests) == 3


def test_the_parts_of_a_call_are_read(web: Web, quo: Quo) -> None:
    call = json.loads((SAMPLES / "list_calls.json").read_text())["data"][0]
    web.answers[:] = [Answer(body=json.dumps({"data": call}).encode()), page("CR1"), page("CR1")]
    assert quo.fetch_call("AC123abc")["summary"]["summary"] == ["You talked about the weather."]
    assert [one["id"] for one in quo.list_recordings("AC123abc")] == ["CR1"]
    assert [one["id"] for one in quo.list_transcripts("AC123abc")] == ["CR1"]
    assert [urlsplit(one.path).path for one in web.requests] == [
        "/calls/AC123abc", "/calls/AC123abc/recordings", "/calls/AC123abc/transcripts",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "kind", "code", "wait"),
    [
        (Answer(429), Deferred, "quo.rate_limited", 1),
        (Answer(429, {"Retry-After": "7"}), Deferred, "quo.rate_limited", 7),
        (Answer(503), RetryLater, "quo.unavailable", None),
        (Answer(200, {}, b"<html>"), RetryLater, "quo.unavailable", None),
        (Answer(200, {}, b'{"data": {}}'), RetryLater, "quo.unavailable", None),
        (HANGS_UP, RetryLater, "quo.no_answer", None),
        (Answer(401), Misconfigured, "quo.key_refused", None),
        (Answer(403), Misconfigured, "quo.access_denied", None),
        (Answer(404), Refused, NOT_FOUND, None),
        (Answer(400, {}, (SAMPLES / "error_400.json").read_bytes()), Refused, "quo.request_refused", None),
    ],
)
def test_errors_say_what_happens_next(
    web: Web, quo: Quo, answer: Answer, kind: type[Exception], code: str, wait: int | None
) -> None:
    web.answers[:] = [answer]
    with pytest.raises(kind) as caught:
        list(quo.list_calls(SINCE, UNTIL))
    assert caught.value.code == code
    assert getattr(caught.value, "wait", None) == (wait and timedelta(seconds=wait))
    assert KEY not in str(caught.value)


def test_a_refusal_is_noted_for_the_connection_of_quo(web: Web, quo: Quo) -> None:
    web.answers[:] = [Answer(401)]
    with collect_calls() as calls, pytest.raises(Misconfigured):
        quo.fetch_message("AC1")
    assert list(calls) == [("openphone", "")]


def test_an_id_of_another_form_is_not_sent(web: Web, quo: Quo) -> None:
    with pytest.raises(Refused, match="should be an id of Quo"):
        quo.fetch_contact("../users")
    assert web.requests == []
