"""A company of the sandbox: its people, job codes and timesheets, answered page by page.

QuickBooks Time API documentation, "Users", "Jobcodes" and "Timesheets". ``LISTS`` is the table of lists.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any

from services.sandbox.faults import Faults
from services.sandbox.quickbooks_time.tokens import Answer, TimeTokens

MOST_ROWS = 200
CALLS_PER_WINDOW, WINDOW_SECONDS = 300, 300.0

Row = dict[str, Any]
_NEEDED = ("ids", "start_date", "modified_since", "modified_before")


@dataclass(frozen=True, slots=True, kw_only=True)
class List:
    """A list of the API. ``filters`` are by parameter; ``needs`` names parameters of which one is given."""

    usual: Mapping[str, Any]
    filters: Mapping[str, Callable[[Row, str], bool]]
    needs: tuple[str, ...] = ()
    kept: Callable[[Row], bool] = lambda _row: True
    """Whether a request without its own filter lists the row."""


def _in_ids(name: str) -> Callable[[Row, str], bool]:
    return lambda row, given: str(row.get(name, "")) in given.split(",")


def _is_active(row: Row, given: str) -> bool:
    return given == "both" or row["active"] == (given == "yes")


def _is_on_the_clock(row: Row, given: str) -> bool:
    return given == "both" or row["on_the_clock"] == (given == "yes")


LISTS: Mapping[str, List] = MappingProxyType(
    {
        "users": List(
            usual={
                "first_name": "", "last_name": "", "group_id": 0, "active": True, "employee_number": 0,
                "salaried": False, "exempt": False, "username": "", "email": "", "email_verified": False,
                "payroll_id": "", "mobile_number": "", "hire_date": "0000-00-00", "term_date": "0000-00-00",
                "last_modified": "2026-01-05T17:24:20+00:00", "last_active": "",
                "created": "2026-01-05T16:13:34+00:00", "client_url": "sandbox", "company_name": "Sandbox",
                "profile_image_url": "", "display_name": None, "pto_balances": {},
                "submitted_to": "2000-01-01", "approved_to": "2000-01-01", "manager_of_group_ids": [],
                "require_password_change": False, "pay_rate": 0, "pay_interval": "hour", "permissions": {},
                "customfields": "",
            },
            filters={"ids": _in_ids("id"), "group_ids": _in_ids("group_id"), "active": _is_active},
            kept=lambda row: bool(row["active"]),
        ),
        "jobcodes": List(
            usual={
                "parent_id": 0, "assigned_to_all": True, "billable": False, "active": True,
                "type": "regular", "has_children": False, "billable_rate": 0, "short_code": "", "name": "",
                "last_modified": "2026-01-05T17:24:20+00:00", "created": "2026-01-05T16:13:34+00:00",
            },
            filters={
                "ids": _in_ids("id"), "active": _is_active,
                "type": lambda row, given: given == "all" or row["type"] == given,
            },
            kept=lambda row: bool(row["active"]) and row["type"] == "regular",
        ),
        "timesheets": List(
            usual={
                "user_id": 0, "jobcode_id": 0, "start": "", "end": "", "duration": 0, "date": "",
                "tz": 0, "tz_str": "", "type": "regular", "location": "", "on_the_clock": False, "locked": 0,
                "notes": "", "customfields": {}, "attached_files": [],
                "last_modified": "2026-01-05T17:24:20+00:00",
            },
            filters={
                "ids": _in_ids("id"), "user_ids": _in_ids("user_id"), "jobcode_ids": _in_ids("jobcode_id"),
                "group_ids": _in_ids("group_id"), "on_the_clock": _is_on_the_clock,
                "start_date": lambda row, given: row["date"] >= given,
                "end_date": lambda row, given: row["date"] <= given,
                "modified_since": lambda row, given: row["last_modified"] >= given,
                "modified_before": lambda row, given: row["last_modified"] < given,
            },
            needs=_NEEDED,
            kept=lambda row: not row["on_the_clock"],
        ),
    }
)  # fmt: skip


class TimeCompany:
    """People, job codes and timesheets by id; a deleted timesheet is in no list."""

    def __init__(self, client_id: str, clock: Callable[[], float]) -> None:
        self.tokens, self.faults = TimeTokens(client_id, clock), Faults()
        self._clock = clock
        self._rows: dict[str, dict[str, Row]] = {name: {} for name in LISTS}
        self._calls: list[float] = []

    def control(self, request: Mapping[str, Any]) -> None:
        """Add or replace ``users``, ``jobcodes`` and ``timesheets``; delete ``delete_timesheets`` [ids].

        The rest is as in ``TimeTokens.control`` and ``Faults.set``.
        """
        for name, kind in LISTS.items():
            for row in request.get(name, ()):
                self._rows[name][str(row["id"])] = {"id": row["id"], **kind.usual, **row}
        for deleted in request.get("delete_timesheets", ()):
            self._rows["timesheets"].pop(str(deleted), None)
        self.tokens.control(request)
        self.faults.set(dict(request))

    def grant(self, request: Mapping[str, Any]) -> Answer:
        if status := self.faults.take_failure():
            return status, {}
        return self.tokens.grant(request)

    def answer(self, name: str, query: Mapping[str, str]) -> Answer:
        """Return (HTTP status, body) of GET ``name``."""
        if status := self.faults.take_failure():
            return status, _error(status, "The sandbox fails on request.")
        now = self._clock()
        self._calls = [at for at in self._calls if now - at < WINDOW_SECONDS]
        if len(self._calls) >= CALLS_PER_WINDOW:
            return 429, _error(429, "Too many requests.")
        self._calls.append(now)
        if name not in LISTS:
            return 404, _error(404, f"There is no {name}.")
        return self._list(name, LISTS[name], query)

    def _list(self, name: str, kind: List, query: Mapping[str, str]) -> Answer:
        limit, page = query.get("limit", "50"), query.get("page", "1")
        if not limit.isdecimal() or not 1 <= int(limit) <= MOST_ROWS:
            return 417, _error(417, f"limit should be from 1 to {MOST_ROWS}.")
        if not page.isdecimal() or page == "0":
            return 417, _error(417, "page should be 1 or more.")
        if kind.needs and not any(query.get(one) for one in kind.needs):
            return 417, _error(417, f"One of {', '.join(kind.needs)} is needed.")
        for one in ("start_date", "end_date"):
            if one in query and not _is_date(query[one]):
                return 417, _error(417, f"{one} should be YYYY-MM-DD.")
        own = {"active", "type", "on_the_clock"} & set(query)
        rows = [
            row
            for row in _sorted(self._rows[name].values())
            if (own or kind.kept(row))
            and all(check(row, query[one]) for one, check in kind.filters.items() if one in query)
        ]
        first = (int(page) - 1) * int(limit)
        found = {str(row["id"]): row for row in rows[first : first + int(limit)]}
        body: dict[str, Any] = {"results": {name: found or []}, "more": first + int(limit) < len(rows)}
        if query.get("supplemental_data") != "no":
            body["supplemental_data"] = {}
        return 200, body


def _sorted(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: int(row["id"]))


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
