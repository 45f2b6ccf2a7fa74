"""Reads calls, messages and conversations of a Quo (OpenPhone) workspace, API version 2026-03-30.

Source: quo.com/docs/2026-03-30. Unlike API v1, its lists need no phone number and no participants. They are
sorted by creation, newest first; recordings and transcripts are sorted by start, oldest first. A key may make
10 requests a second.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.core.errors import Deferred, Misconfigured, Refused, RetryLater, WorkError
from services.core.fields import find_object
from services.core.log_redaction import quote_value
from services.providers.call_outcomes import noted_call
from services.providers.delivery import find_instant
from services.providers.http import find_json, get, parse_retry_after

if TYPE_CHECKING:
    import httpx

PROVIDER = "openphone"
"""Its name in connections: Quo is the new name of OpenPhone."""
API_VERSION = "2026-03-30"
REQUESTS_PER_SECOND = 10
PAGE_SIZE = 50
MOST_PAGES = 2_000
"""100,000 objects; a list that is longer repeats itself."""
NOT_FOUND = "quo.not_found"
MARGIN = timedelta(seconds=1)
MOST_PAUSES, LONGEST_PAUSE = 30, timedelta(minutes=1)

_WAIT_LONGEST = timedelta(hours=1)
_WAIT_UNSTATED = timedelta(seconds=1)
_OBJECT_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Quo:
    """A workspace. Objects are the JSON of Quo.

    ``pause`` waits for a given time, after which a request that the rate limit refused is made again; without
    it ``Deferred`` is raised.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        http: "httpx.Client | None" = None,
        pause: Callable[[timedelta], object] | None = None,
    ) -> None:
        self._url, self._key, self._http, self._pause = base_url.rstrip("/"), key, http, pause

    def list_calls(self, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
        """Yield the calls created in [``since``, ``until``), newest first, with summary and voicemail."""
        return self._list_created("calls", since, until)

    def list_messages(self, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
        """Yield the messages created in [``since``, ``until``), newest first."""
        return self._list_created("messages", since, until)

    def list_conversations(self) -> Iterator[dict[str, Any]]:
        """Yield every conversation: a number of the workspace and its participants."""
        return self._list("conversations")

    def list_phone_numbers(self) -> Iterator[dict[str, Any]]:
        """Yield the phone numbers of the workspace."""
        return self._list("phone-numbers")

    def fetch_call(self, call_id: str) -> dict[str, Any]:
        """Return the call with ``summary`` and ``voicemail``; raise ``Refused`` with ``NOT_FOUND``."""
        return find_object(self._get("calls", call_id), "data")

    def fetch_message(self, message_id: str) -> dict[str, Any]:
        """Return the message; raise ``Refused`` with ``NOT_FOUND`` if there is none."""
        return find_object(self._get("messages", message_id), "data")

    def fetch_contact(self, contact_id: str) -> dict[str, Any]:
        """Return the contact; raise ``Refused`` with ``NOT_FOUND`` if there is none."""
        return find_object(self._get("contacts", contact_id), "data")

    def list_recordings(self, call_id: str) -> list[dict[str, Any]]:
        """Return the recordings of a call; one that was paused has several. ``url`` may expire."""
        return list(self._list("calls", call_id, "/recordings"))

    def list_transcripts(self, call_id: str) -> list[dict[str, Any]]:
        """Return the transcript of each recording; ``status`` is absent, in-progress, completed or failed."""
        return list(self._list("calls", call_id, "/transcripts"))

    def _list_created(self, kind: str, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
        """Filter by time here too: an ignored parameter must not read a whole history.

        The requested window is a little longer, because Quo does not state whether its bounds belong to it.
        """
        bounds = {"createdAfter": _format(since - MARGIN), "createdBefore": _format(until + MARGIN)}
        for one in self._list(kind, **bounds):
            created_at = find_instant(one.get("createdAt"))
            if created_at is not None and created_at < since:
                return
            if created_at is None or created_at < until:
                yield one

    def _list(
        self, kind: str, object_id: str = "", path: str = "", **params: Any
    ) -> Iterator[dict[str, Any]]:
        params["limit"] = PAGE_SIZE
        for _ in range(MOST_PAGES):
            page = self._get(kind, object_id, path, **params)
            rows, cursor = page.get("data"), page.get("nextCursor")
            if not isinstance(rows, list):
                raise RetryLater("quo.unavailable", f"the answer to a list of {kind} has no data")
            yield from rows
            if not (rows and isinstance(cursor, str) and cursor):
                return
            params["after"] = cursor
        raise RetryLater("quo.unavailable", f"the list of {kind} has more than {MOST_PAGES} pages")

    def _get(self, kind: str, object_id: str = "", path: str = "", **params: Any) -> dict[str, Any]:
        for _ in range(MOST_PAUSES if self._pause else 0):
            try:
                return self._get_once(kind, object_id, path, **params)
            except Deferred as fault:
                if self._pause is None or fault.wait is None or fault.wait > LONGEST_PAUSE:
                    raise
                self._pause(fault.wait)
        return self._get_once(kind, object_id, path, **params)

    def _get_once(self, kind: str, object_id: str, path: str, **params: Any) -> dict[str, Any]:
        if object_id and not _OBJECT_ID.fullmatch(object_id):
            shown = quote_value(object_id)
            raise Refused("quo.id_invalid", f"{shown} should be an id of Quo, such as AC123abc")
        url = f"{self._url}/{kind}" + (f"/{object_id}" if object_id else "") + path
        headers = {"Authorization": self._key, "Quo-Api-Version": API_VERSION, "Accept": "application/json"}
        with noted_call(PROVIDER, kind):
            answer = get("quo", url, headers, http=self._http, host="api.quo.com", params=params)
            if not answer.is_success:
                raise _make_error(answer, kind)
            body = find_json(answer)
        if body is None:
            raise RetryLater("quo.unavailable", "the answer is no JSON object")
        return body


def _format(at: datetime) -> str:
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _make_error(answer: "httpx.Response", kind: str) -> WorkError:
    """Return the error of the status, without Quo's message, which may quote a phone number."""
    status = answer.status_code
    detail, wait = f"HTTP {status}", parse_retry_after(answer.headers, _WAIT_LONGEST)
    match status:
        case 429:
            why = f"{detail}: more than {REQUESTS_PER_SECOND} requests a second"
            return Deferred("quo.rate_limited", why, wait=wait or _WAIT_UNSTATED)
        case 401:
            return Misconfigured("quo.key_refused", f"{detail}: Quo does not accept the quo-key")
        case 403:
            why = f"{detail}: the key of this workspace may not read {kind}"
            return Misconfigured("quo.access_denied", why, is_partial=True)
        case 404:
            return Refused(NOT_FOUND, f"{detail}: Quo has no such object of {kind}")
    unavailable = RetryLater("quo.unavailable", detail, wait=wait)
    return unavailable if status >= 500 else Refused("quo.request_refused", detail)
