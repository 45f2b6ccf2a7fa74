"""Twilio's usage records over real HTTP: pages, numbers as strings or null, and errors by what to do next."""

import base64
import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.core.errors import Misconfigured, Refused, RetryLater
from services.providers.provider import SecretInvalid
from services.providers.registry import get_secret_kind
from services.providers.twilio import MOST_PAGES, DailyUsage, fetch_daily_usage
from services.providers.twilio_credentials import parse_credentials
from tests.fakes.web import HANGS_UP, Answer, Web

ACCOUNT, KEY, TOKEN = "AC" + "a1" * 16, "SK" + "b2" * 16, "t0ken" * 7
FIRST, LAST = date(2026, 11, 1), date(2026, 11, 20)
PATH = f"/2010-04-01/Accounts/{ACCOUNT}/Usage/Records/Daily.json"


def record(day: str, price: Any = "0.0079", unit: str | None = "usd", **fields: Any) -> dict[str, Any]:
    usual = {"category": "sms", "count": "1", "start_date": day, "end_date": day}
    return usual | {"price": price, "price_unit": unit} | fields


def page(*records: object, following: str | None = None) -> Answer:
    return Answer(200, {}, json.dumps({"usage_records": records, "next_page_uri": following}).encode())


def error(status: int, code: int, **headers: str) -> Answer:
    body = {"code": code, "message": f"see {TOKEN}", "more_info": "https://twilio.com", "status": status}
    return Answer(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode()
    )


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as started:
        yield started


def fetch(web: Web, *answers: Answer, secret: str = f"{ACCOUNT}:{TOKEN}") -> list[DailyUsage | None]:
    web.answers[:] = answers
    return list(fetch_daily_usage(parse_credentials(secret), web.url, "sms", FIRST, LAST))


@pytest.mark.parametrize(
    ("secret", "user", "password"),
    [(f"{ACCOUNT}:{TOKEN}", ACCOUNT, TOKEN), (f"{ACCOUNT}:{KEY}:s3cretvalue", KEY, "s3cretvalue")],
)
def test_every_page_is_read_with_basic_auth(web: Web, secret: str, user: str, password: str) -> None:
    following = f"{PATH}?Category=sms&PageSize=1000&Page=1&PageToken=APMQ%3D%3D"
    found = fetch(
        web, page(record("2026-11-01"), following=following), page(record("2026-11-02", "1.5")), secret=secret
    )

    assert found == [
        DailyUsage(date(2026, 11, 1), "0.0079", "USD"),
        DailyUsage(date(2026, 11, 2), "1.5", "USD"),
    ]
    first, second = web.requests
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    assert [one.headers["authorization"] for one in web.requests] == [wanted] * 2
    assert urlsplit(first.path).path == PATH
    assert parse_qs(urlsplit(first.path).query) == {
        "Category": ["sms"], "StartDate": ["2026-11-01"], "EndDate": ["2026-11-20"], "PageSize": ["1000"],
    }  # fmt: skip
    assert second.path == following


def test_a_price_may_be_null_or_a_number_and_an_unreadable_record_stops_no_other(web: Web) -> None:
    day = date(2026, 11, 1)
    assert fetch(
        web,
        page(
            record("2026-11-01", None, None),
            record("2026-11-01", 0.00001),
            record("2026-11-01", "abc"),
            record("2026-11-01", "1", "xxq"),
            record("2026-11-01", "1", None),
            record("yesterday"),
            record("2026-11-01", end_date="2026-11-30"),
            "a record",
            record("2026-11-01", "-0.5", "cad"),
        ),
    ) == [
        DailyUsage(day, None, ""),
        DailyUsage(day, "0.00001", "USD"),
        *[None] * 6,
        DailyUsage(day, "-0.5", "CAD"),
    ]


def test_twilios_own_samples_are_read(web: Web, samples: Path) -> None:
    def sample(name: str) -> Answer:
        return Answer(200, {}, (samples / "twilio" / name).read_bytes())

    assert fetch(web, sample("usage_records_daily.readEmpty.json")) == []
    assert fetch(web, sample("usage_records_daily.readFull.json")) == [None]  # four years in one record
    of_a_day = json.loads((samples / "twilio" / "usage_records.readFull.json").read_bytes())
    assert fetch(web, page(*of_a_day["usage_records"])) == [DailyUsage(date(2008, 1, 2), "2192.84855", "USD")]


@pytest.mark.parametrize(
    ("answer", "fault", "code", "detail"),
    [
        (error(401, 20003), Misconfigured, "twilio.credentials_refused", "HTTP 401 20003"),
        (error(403, 20005), Misconfigured, "twilio.access_denied", "HTTP 403 20005"),
        (error(404, 20404), Misconfigured, "twilio.account_unknown", "HTTP 404 20404"),
        (error(400, 20001), Refused, "twilio.request_refused", "HTTP 400 20001"),
        (error(429, 20429, Retry_After="7"), RetryLater, "twilio.rate_limited", "HTTP 429 20429"),
        (Answer(503, {}, b"<html>"), RetryLater, "twilio.unavailable", "HTTP 503"),
        (Answer(200, {}, b"[]"), RetryLater, "twilio.unavailable", "no JSON object"),
        (Answer(200, {}, b"{}"), RetryLater, "twilio.unavailable", "no usage_records"),
        (HANGS_UP, RetryLater, "twilio.no_answer", "no answer"),
        (page(following="https://evil.example/x"), RetryLater, "twilio.unavailable", "should begin with"),
        (page(following="//evil.example/x"), RetryLater, "twilio.unavailable", "should begin with"),
    ],
)
def test_an_error_says_what_happens_next_and_never_the_token(
    web: Web, answer: Answer, fault: type[Exception], code: str, detail: str
) -> None:
    with pytest.raises(fault) as refused:
        fetch(web, answer)

    error_found: Any = refused.value
    assert (error_found.code, detail in error_found.detail) == (code, True)
    assert TOKEN not in str(error_found) + repr(error_found)
    if code == "twilio.rate_limited":
        assert error_found.wait == timedelta(seconds=7)
    assert len(web.requests) == 1


def test_a_list_without_an_end_is_given_up(web: Web) -> None:
    with pytest.raises(RetryLater, match=f"more than {MOST_PAGES} pages"):
        fetch(web, *[page(following=PATH)] * (MOST_PAGES + 1))
    assert len(web.requests) == MOST_PAGES


@pytest.mark.parametrize("pasted", [f"{ACCOUNT}:{TOKEN}", f" {ACCOUNT}:{KEY}:s3cretvalue\n"])
def test_credentials_are_one_secret(pasted: str) -> None:
    assert get_secret_kind("twilio-credentials").parse(pasted) == pasted.strip()


@pytest.mark.parametrize(
    "pasted", [TOKEN, ACCOUNT, f"{ACCOUNT}:", f"{KEY}:{TOKEN}", "sk_live_1", f"{ACCOUNT}:{KEY}"]
)
def test_other_secrets_are_refused(pasted: str) -> None:
    with pytest.raises(SecretInvalid, match=r"it should be the account's SID, a colon"):
        get_secret_kind("twilio-credentials").parse(pasted)
