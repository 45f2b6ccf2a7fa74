"""Reads Twilio's usage records: what each day of a category, such as SMS, cost an account.

Source: twilio.com/docs/usage/api/usage-record. Days are in UTC. Numbers are strings and may be null.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NamedTuple

from services.core.errors import Misconfigured, Refused, RetryLater, WorkError
from services.core.money import CURRENCIES
from services.providers.call_outcomes import noted_call
from services.providers.http import find_json, get, parse_retry_after
from services.providers.twilio_credentials import TwilioCredentials

if TYPE_CHECKING:
    import httpx

PAGE_SIZE = 1000
MOST_PAGES = 100
"""A list that is longer repeats itself."""
WAIT_LONGEST = timedelta(hours=1)


class DailyUsage(NamedTuple):
    """The cost of ``day`` (UTC): ``price`` is a decimal in units of ``currency``; None: not billed yet."""

    day: date
    price: str | None
    currency: str


def fetch_daily_usage(
    credentials: TwilioCredentials, base_url: str, category: str, first: date, last: date
) -> Iterator[DailyUsage | None]:
    """Yield the usage of each day from ``first`` to ``last``; None for a record that cannot be read.

    Twilio bills late, so a day may have another price at the next call. Raises ``RetryLater``,
    ``Misconfigured`` or ``Refused``, also between two pages.
    """
    path = f"/2010-04-01/Accounts/{credentials.account}/Usage/Records/Daily.json"
    url = base_url.rstrip("/") + path
    params: dict[str, Any] = {
        "Category": category,
        "StartDate": first.isoformat(),
        "EndDate": last.isoformat(),
        "PageSize": PAGE_SIZE,
    }
    for _ in range(MOST_PAGES):
        page = _get(credentials, url, params)
        records = page.get("usage_records")
        if not isinstance(records, list):
            raise RetryLater("twilio.unavailable", "the answer has no usage_records")
        yield from map(_parse_usage, records)
        following = page.get("next_page_uri")
        if not following:
            return
        # The credentials are sent to Twilio only: an address of another host is no page.
        if not (isinstance(following, str) and following.startswith("/2010-04-01/")):
            raise RetryLater("twilio.unavailable", "next_page_uri should begin with /2010-04-01/")
        url, params = base_url.rstrip("/") + following, {}
    raise RetryLater("twilio.unavailable", f"the list has more than {MOST_PAGES} pages")


def _get(credentials: TwilioCredentials, url: str, params: dict[str, Any]) -> dict[str, Any]:
    with noted_call("twilio", "usage"):
        given: dict[str, Any] = {"params": params} if params else {}
        auth = (credentials.user, credentials.password)
        answer = get("twilio", url, {"Accept": "application/json"}, auth=auth, host="api.twilio.com", **given)
        body = find_json(answer)
        if not answer.is_success:
            raise _make_error(answer, body or {})
    if body is None:
        raise RetryLater("twilio.unavailable", "the answer is no JSON object")
    return body


def _make_error(answer: "httpx.Response", body: dict[str, Any]) -> WorkError:
    """Return the error of Twilio's ``code`` and status, without its message, which may quote the request."""
    status, code = answer.status_code, body.get("code")
    detail = f"HTTP {status}" + (f" {code}" if isinstance(code, int) else "")
    if status == 429:
        wait = parse_retry_after(answer.headers, WAIT_LONGEST)
        return RetryLater("twilio.rate_limited", detail, wait=wait)
    if status >= 500:
        return RetryLater("twilio.unavailable", detail)
    if status == 401:
        return Misconfigured("twilio.credentials_refused", f"{detail}: the SID or the token is wrong")
    if status == 403:
        return Misconfigured(
            "twilio.access_denied", f"{detail}: this key may not read usage", is_partial=True
        )
    if status == 404:
        return Misconfigured("twilio.account_unknown", f"{detail}: there is no account with this SID")
    return Refused("twilio.request_refused", detail)


def _parse_usage(record: object) -> DailyUsage | None:
    if not isinstance(record, dict):
        return None
    price = record.get("price")
    try:
        day = date.fromisoformat(record.get("start_date") or "")
        if price is None:
            return DailyUsage(day, None, "")
        amount = Decimal(str(price))
    except (TypeError, ValueError, InvalidOperation):
        return None
    currency = str(record.get("price_unit") or "").upper()
    if currency not in CURRENCIES or not amount.is_finite() or record.get("end_date") != day.isoformat():
        return None
    return DailyUsage(day, f"{amount:f}", currency)
