"""Reads people, job codes and timesheets of a company from QuickBooks Time, page by page.

Source: QuickBooks Time API documentation. Durations are seconds; "" and "0000-00-00" mean nothing; an empty
set of results may be a list. A company may make 300 calls in 5 minutes; after 429 it waits for the end of
these.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from services.core.errors import Misconfigured, Refused, RetryLater, WorkError
from services.providers.call_outcomes import noted_call
from services.providers.http import find_json, get, parse_retry_after
from services.providers.quickbooks_time_oauth import PROVIDER

if TYPE_CHECKING:
    import httpx

PAGE_SIZE = 200
MOST_PAGES = 250
"""50,000 rows: what the calls of one window can read, since each try begins with the first page."""
WINDOW = timedelta(minutes=5)
CALLS_PER_WINDOW = 300
LONGEST_NAME = 100
"""Longer names and payroll ids are cut."""
_LONGEST_SHIFT = timedelta(days=31)
_FARTHEST_DATE = timedelta(days=2)
"""From the UTC date of a shift's start to its own date."""


class TimePerson(NamedTuple):
    """A person of the company. ``payroll_id`` may be empty."""

    id: int
    name: str
    payroll_id: str


class TimeJobcode(NamedTuple):
    """A job code. ``type`` is ``regular``, ``pto``, ``paid_break`` or ``unpaid_break``."""

    id: int
    name: str
    type: str


class RecordedTime(NamedTuple):
    """A timesheet. ``start`` None: entered without times; ``end`` None with a start: still open."""

    id: int
    user_id: int
    jobcode_id: int
    day: date
    seconds: int
    start: datetime | None
    end: datetime | None


class QuickbooksTime:
    """A company's account. ``renew`` returns a token to use instead of a refused one.

    Each list leaves out rows that cannot be read and counts them in ``unreadable``. A row that moved to the
    next page while the list was read counts once.
    """

    def __init__(
        self, base_url: str, token: str, renew: Callable[[str], str], *, http: "httpx.Client | None" = None
    ) -> None:
        self._url, self._token, self._renew, self._http = base_url.rstrip("/"), token, renew, http
        self.unreadable = 0

    def list_people(self) -> list[TimePerson]:
        """Return everybody, also people who left."""
        return [
            TimePerson(_id(row["id"]), _name_person(row), _text(row.get("payroll_id")))
            for row in self._list_rows("users", {"active": "both"}, _has_id)
        ]

    def list_jobcodes(self) -> list[TimeJobcode]:
        """Return every job code, also closed ones and the ones of leave and breaks."""
        return [
            TimeJobcode(_id(row["id"]), _text(row.get("name")), str(row.get("type") or "regular"))
            for row in self._list_rows("jobcodes", {"active": "both", "type": "all"}, _has_id)
        ]

    def list_times(self, first: date, last: date, ids: Mapping[str, str]) -> list[RecordedTime]:
        """Return the timesheets dated ``first`` to ``last``, with open ones.

        ``ids`` limit them: ``user_ids``, ``jobcode_ids`` or ``group_ids``, each with commas.
        """
        params = {
            "start_date": first.isoformat(),
            "end_date": last.isoformat(),
            "on_the_clock": "both",
            **ids,
        }
        found = []
        for row in self._list_rows("timesheets", params, _has_id):
            try:
                time = _parse_time(row)
                if not first <= time.day <= last:
                    raise ValueError("a date outside the request")
                found.append(time)
            except (KeyError, TypeError, ValueError, OverflowError):
                self.unreadable += 1
        return found

    def _list_rows(
        self, name: str, params: Mapping[str, str], is_readable: Callable[[Any], bool]
    ) -> Iterator[dict[str, Any]]:
        seen: set[int] = set()
        for page in range(1, MOST_PAGES + 1):
            given = {**params, "page": page, "limit": PAGE_SIZE, "supplemental_data": "no"}
            body = self._get(name, given)
            results = body.get("results")
            rows = results.get(name) if isinstance(results, dict) else None
            if not isinstance(rows, dict | list):
                raise RetryLater("quickbooks_time.unavailable", f"the answer has no results of {name}")
            known = len(seen)
            for row in rows.values() if isinstance(rows, dict) else rows:
                if not is_readable(row):
                    self.unreadable += 1
                elif (number := _id(row["id"])) not in seen:
                    seen.add(number)
                    yield row
            more = body.get("more")
            if type(more) is not bool:
                raise RetryLater("quickbooks_time.unavailable", "the answer does not have more as a boolean")
            if not more:
                return
            if len(seen) == known:
                raise RetryLater(
                    "quickbooks_time.unavailable", f"page {page} of {name} repeats the one before"
                )
        raise Refused(
            "quickbooks_time.too_many",
            f"{name} has more than {MOST_PAGES * PAGE_SIZE:,} rows: cover a day, or fewer people",
        )

    def _get(self, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        with noted_call(PROVIDER, name):
            answer = self._send(name, params)
            if answer.status_code == 401:
                self._token = self._renew(self._token)
                answer = self._send(name, params)
            body = find_json(answer)
            if not answer.is_success:
                raise _make_error(answer, body or {})
        if body is None:
            raise RetryLater("quickbooks_time.unavailable", "the answer is no JSON object")
        return body

    def _send(self, name: str, params: Mapping[str, Any]) -> "httpx.Response":
        headers = {"Accept": "application/json", "Authorization": f"Bearer {self._token}"}
        url = f"{self._url}/api/v1/{name}"
        return get(PROVIDER, url, headers, http=self._http, host="rest.tsheets.com", params=dict(params))


_RECONNECT = "an admin connects the company again on the shop's page"
MISCONFIGURED = {
    401: ("token_refused", _RECONNECT),
    402: ("not_paid", "the company's QuickBooks Time subscription is not paid"),
    403: ("access_denied", f"the person who connected the company may not read this: {_RECONNECT}"),
}
"""The end of the error code and the text, by status."""
_LATER = {
    429: ("rate_limited", "300 calls in 5 min", WINDOW),
    499: ("blocked", "QuickBooks Time blocks this address", timedelta(hours=1)),
}


def _make_error(answer: "httpx.Response", body: dict[str, Any]) -> WorkError:
    """Return the error of the status, without the message, which may quote the request."""
    status = answer.status_code
    inner = body.get("error") if isinstance(body.get("error"), dict) else body
    code = inner.get("code") if isinstance(inner, dict) else None
    detail = f"HTTP {status}" + (f" {code}" if isinstance(code, int) and code != status else "")
    if status in MISCONFIGURED:
        name, text = MISCONFIGURED[status]
        return Misconfigured(f"quickbooks_time.{name}", f"{detail}: {text}", is_partial=status == 403)
    if status in _LATER:
        name, text, usual = _LATER[status]
        wait = parse_retry_after(answer.headers, timedelta(hours=1)) or usual
        return RetryLater(f"quickbooks_time.{name}", f"{detail}: {text}", wait=wait)
    if status == 409 or status >= 500:
        return RetryLater("quickbooks_time.unavailable", detail)
    return Refused("quickbooks_time.request_refused", detail)


def _has_id(row: Any) -> bool:
    number = str(row.get("id", "")) if isinstance(row, dict) else ""
    return number.isascii() and number.isdecimal() and len(number) < 19


def _id(value: Any) -> int:
    """Return an id; some answers have it as text. None and "" are 0."""
    return int(value or 0)


def _text(value: Any) -> str:
    """Return a text in one line; None is ""."""
    return " ".join(str(value or "").split())[:LONGEST_NAME]


def _name_person(row: dict[str, Any]) -> str:
    names = (row.get("display_name"), f"{row.get('first_name') or ''} {row.get('last_name') or ''}")
    found = map(_text, (*names, row.get("username")))
    return next(filter(None, found), f"person {row['id']}")


def _parse_time(row: dict[str, Any]) -> RecordedTime:
    start, end = _parse_instant(row.get("start")), _parse_instant(row.get("end"))
    if end is not None and start is None:
        raise ValueError("an end without a start")
    seconds = row.get("duration") or 0
    if type(seconds) is not int or seconds < 0:
        raise ValueError("duration should be whole seconds")
    day = date.fromisoformat(row["date"])
    if start is not None and abs(start.date() - day) > _FARTHEST_DATE:
        raise ValueError("a start far from the date")
    if start is not None and end is not None and end - start > _LONGEST_SHIFT:
        raise ValueError("a shift of more than 31 days")
    return RecordedTime(
        id=_id(row["id"]),
        user_id=_id(row["user_id"]),
        jobcode_id=_id(row.get("jobcode_id")),
        day=day,
        seconds=seconds,
        start=start,
        end=end,
    )


def _parse_instant(text: Any) -> datetime | None:
    if not text:
        return None
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without an offset")
    return at.astimezone(UTC)
