"""QuickBooks Time over real HTTP: pages, odd rows, a refused token, and errors by what to do next."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.core.errors import Misconfigured, Refused, RetryLater
from services.providers.http import get_http_client
from services.providers.oauth import request_grant
from services.providers.quickbooks_time import (
    MOST_PAGES,
    QuickbooksTime,
    RecordedTime,
    TimeJobcode,
    TimePerson,
)
from services.providers.quickbooks_time_oauth import QUICKBOOKS_TIME_TOKENS, make_authorize_url
from tests.fakes.web import HANGS_UP, Answer, Web

FIRST, LAST = date(2026, 11, 15), date(2026, 11, 21)
GRANT = {
    "access_token": "a-2",
    "expires_in": 864_000,
    "token_type": "bearer",
    "scope": "",
    "refresh_token": "r-2",
}


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as started:
        yield started


def page(name: str, *rows: dict[str, Any], more: Any = False) -> Answer:
    results = {str(row["id"]): row for row in rows} or []
    return Answer(200, {}, json.dumps({"results": {name: results}, "more": more}).encode())


def time_row(number: int, **fields: Any) -> dict[str, Any]:
    usual = {
        "id": number, "user_id": 7, "jobcode_id": 3, "start": "2026-11-16T09:00:00-08:00",
        "end": "2026-11-16T17:30:00-08:00", "duration": 30_600, "date": "2026-11-16", "type": "regular",
        "on_the_clock": False,
    }  # fmt: skip
    return usual | fields


def open_account(web: Web, *answers: Answer, renewed: str = "") -> QuickbooksTime:
    def renew(refused: str) -> str:
        assert refused == "a-1"
        if not renewed:
            raise Misconfigured("quickbooks_time.refresh_refused", "no")
        return renewed

    web.answers[:] = answers
    return QuickbooksTime(web.url, "a-1", renew)


def query_of(web: Web, place: int) -> dict[str, list[str]]:
    return parse_qs(urlsplit(web.requests[place].path).query)


def test_every_page_is_read_until_there_are_no_more(web: Web) -> None:
    account = open_account(
        web, page("timesheets", time_row(1), more=True), page("timesheets", time_row(2), more=False)
    )
    found = account.list_times(FIRST, LAST, {"user_ids": "7,8"})
    assert [one.id for one in found] == [1, 2]
    assert found[0] == RecordedTime(
        1, 7, 3, date(2026, 11, 16), 30_600, datetime(2026, 11, 16, 17, tzinfo=UTC),
        datetime(2026, 11, 17, 1, 30, tzinfo=UTC),
    )  # fmt: skip
    assert urlsplit(web.requests[0].path).path == "/api/v1/timesheets"
    assert query_of(web, 1) == {
        "start_date": ["2026-11-15"], "end_date": ["2026-11-21"], "on_the_clock": ["both"],
        "user_ids": ["7,8"], "page": ["2"], "limit": ["200"], "supplemental_data": ["no"],
    }  # fmt: skip
    assert {one.headers["authorization"] for one in web.requests} == {"Bearer a-1"}


def test_open_shifts_and_entries_without_times_are_read(web: Web) -> None:
    open_shift = time_row(1, end="", on_the_clock=True, duration=0)
    by_hand = time_row(2, start="", end="", type="manual", duration=5400, jobcode_id=None)
    first, second = open_account(web, page("timesheets", open_shift, by_hand)).list_times(FIRST, LAST, {})
    assert (first.start, first.end) == (datetime(2026, 11, 16, 17, tzinfo=UTC), None)
    assert (second.start, second.end, second.seconds, second.jobcode_id) == (None, None, 5400, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"date": "0000-00-00"}, {"date": None}, {"start": "2026-11-16T09:00:00"}, {"start": "", "end": "x"},
        {"start": "", "end": "2026-11-16T17:30:00-08:00"}, {"duration": -5}, {"duration": "5"},
        {"user_id": "x"}, {"id": "x"}, {"id": None}, {"start": "2026-13-45T09:00:00-08:00"},
        {"end": "9999-12-31T10:00:00-08:00"}, {"end": "2027-11-16T10:00:00-08:00"}, {"id": "9" * 5000},
        {"start": "0001-01-01T09:00:00+00:00"}, {"date": "2026-11-14"}, {"date": "0001-01-01", "start": ""},
    ],
)  # fmt: skip
def test_an_odd_row_is_counted_and_the_others_are_read(web: Web, fields: dict[str, Any]) -> None:
    account = open_account(web, page("timesheets", time_row(1, **fields), time_row(2)))
    assert [one.id for one in account.list_times(FIRST, LAST, {})] == [2]
    assert account.unreadable == 1


def test_people_and_job_codes_are_named(web: Web) -> None:
    rows = [
        {"id": 1, "first_name": "Mary", "last_name": "Samsonite", "payroll_id": "", "display_name": None},
        {"id": "2", "first_name": "", "last_name": "", "username": "admin", "payroll_id": "E-2"},
        {"id": 3, "display_name": "Mary  Lee"},
        {"id": 4},
        {"id": 5, "display_name": "W" * 40_000, "payroll_id": " 5\r\n=1 "},
    ]
    codes = [
        {"id": 17, "name": "Repairs", "type": "regular"},
        {"id": 18, "name": None, "type": "unpaid_break"},
    ]
    account = open_account(web, page("users", *rows), page("jobcodes", *codes))
    assert account.list_people() == [
        TimePerson(1, "Mary Samsonite", ""), TimePerson(2, "admin", "E-2"), TimePerson(3, "Mary Lee", ""),
        TimePerson(4, "person 4", ""), TimePerson(5, "W" * 100, "5 =1"),
    ]  # fmt: skip
    assert account.list_jobcodes() == [
        TimeJobcode(17, "Repairs", "regular"),
        TimeJobcode(18, "", "unpaid_break"),
    ]
    assert query_of(web, 1)["type"] == ["all"]


def test_an_empty_list_may_be_a_list(web: Web) -> None:
    assert open_account(web, page("timesheets")).list_times(FIRST, LAST, {}) == []


def test_a_refused_token_is_renewed_once(web: Web) -> None:
    account = open_account(web, Answer(401), page("users", {"id": 1, "username": "ada"}), renewed="a-2")
    assert account.list_people() == [TimePerson(1, "ada", "")]
    assert [one.headers["authorization"] for one in web.requests] == ["Bearer a-1", "Bearer a-2"]
    with pytest.raises(Misconfigured) as refused:
        open_account(web, Answer(401), Answer(401), renewed="a-2").list_people()
    assert refused.value.code == "quickbooks_time.token_refused"


@pytest.mark.parametrize(
    ("answer", "kind", "code", "wait"),
    [
        (Answer(402), Misconfigured, "not_paid", None),
        (Answer(403), Misconfigured, "access_denied", None),
        (Answer(409), RetryLater, "unavailable", None),
        (Answer(413), Refused, "request_refused", None),
        (Answer(417, {}, b'{"error": {"code": 417, "message": "secret"}}'), Refused, "request_refused", None),
        (Answer(429), RetryLater, "rate_limited", timedelta(minutes=5)),
        (Answer(429, {"retry-after": "7"}), RetryLater, "rate_limited", timedelta(seconds=7)),
        (Answer(499), RetryLater, "blocked", timedelta(hours=1)),
        (Answer(503), RetryLater, "unavailable", None),
        (Answer(200, {}, b"<html>"), RetryLater, "unavailable", None),
        (Answer(200, {}, b'{"results": {}}'), RetryLater, "unavailable", None),
        (HANGS_UP, RetryLater, "no_answer", None),
    ],
)
def test_each_answer_has_its_error(
    web: Web, answer: Answer, kind: type[Exception], code: str, wait: timedelta | None
) -> None:
    with pytest.raises(kind) as caught:
        open_account(web, answer).list_people()
    assert caught.value.code.partition(".")[2] == code  # type: ignore[attr-defined]
    assert getattr(caught.value, "wait", None) == wait
    assert "secret" not in str(caught.value)


def test_a_list_without_an_end_stops(web: Web) -> None:
    answers = [page("users", {"id": number}, more=True) for number in range(MOST_PAGES)]
    with pytest.raises(Refused, match="more than 50,000 rows: cover a day"):
        open_account(web, *answers).list_people()
    with pytest.raises(RetryLater, match="page 2 of users repeats"):
        open_account(web, *[page("users", {"id": 1}, more=True)] * 2).list_people()


def test_a_row_that_moved_to_the_next_page_counts_once(web: Web) -> None:
    first, second = [time_row(1), time_row(2)], [time_row(2), time_row(3)]
    account = open_account(web, page("timesheets", *first, more=True), page("timesheets", *second))
    assert [one.id for one in account.list_times(FIRST, LAST, {})] == [1, 2, 3]
    assert account.unreadable == 0


@pytest.mark.parametrize("more", ["true", 1, None, "false"])
def test_a_list_whose_end_is_not_known_is_refused(web: Web, more: Any) -> None:
    with pytest.raises(RetryLater, match="more as a boolean"):
        open_account(web, page("timesheets", time_row(1), more=more)).list_times(FIRST, LAST, {})


def refresh(web: Web, answer: Answer) -> Any:
    web.answers[:] = [answer]
    fields = {"grant_type": "refresh_token", "refresh_token": "r-1", "client_id": "c", "client_secret": "s-1"}
    return request_grant(QUICKBOOKS_TIME_TOKENS, get_http_client(), web.url, fields)


def test_a_refresh_is_a_form_and_returns_a_new_pair(web: Web) -> None:
    found = refresh(web, Answer(200, {}, json.dumps(GRANT).encode()))
    assert (found.access_token, found.refresh_token, found.expires_in) == ("a-2", "r-2", timedelta(days=10))
    assert parse_qs(web.requests[0].body.decode())["refresh_token"] == ["r-1"]
    assert web.requests[0].path == "/api/v1/grant"


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (200, "invalid_grant", "refresh_refused"),
        (400, "invalid_grant", "refresh_refused"),
        (200, "invalid_client", "client_refused"),
        (401, "", "client_refused"),
    ],
)
def test_a_refusal_is_one_with_every_status(web: Web, status: int, error: str, code: str) -> None:
    body = {"error": error, "error_description": "r-1 s-1"} | (GRANT if status == 200 else {})
    with pytest.raises(Misconfigured) as caught:
        refresh(web, Answer(status, {}, json.dumps(body).encode()))
    assert caught.value.code == f"quickbooks_time.{code}"
    assert not {"r-1", "s-1"} & set(caught.value.detail.split())


def test_the_address_to_authorise_carries_the_state() -> None:
    url = make_authorize_url("https://rest.tsheets.com/", "app", "https://c.example/oauth/x", "s t")
    assert urlsplit(url).path == "/api/v1/authorize"
    assert parse_qs(urlsplit(url).query) == {
        "response_type": ["code"], "client_id": ["app"], "redirect_uri": ["https://c.example/oauth/x"],
        "state": ["s t"],
    }  # fmt: skip
