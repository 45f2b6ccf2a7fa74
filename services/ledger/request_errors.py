"""Requests that were answered with 5xx, one row each: recorded by ingress and console, read by people."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import unquote

from sqlalchemy import Connection, Row, select

from services.core.db import Page, fetch_page
from services.core.errors import InputInvalid
from services.core.log_redaction import redact_text
from services.core.pg_arrays import upsert_rows
from services.ledger.tables import request_errors
from services.providers.delivery import MAX_TEXT

NO_FAULT = ("health", "paused")
"""Outcomes that are answered with 503 on purpose: ``/health`` of a fleet that is down, and a pause."""

_PHONE = re.compile(r"(?<=/)[0-9]{9,15}(?![^/])")
"""A part of a path that is a number as long as one of a phone; ids of Shopify are hidden too."""
# One probe of the primary key for each minute: a range of minutes alone would read the rows of all shops.
_COUNT_REQUESTS = """
select coalesce(sum(c.requests), 0)::bigint as count, coalesce(sum(c.failed), 0)::bigint as failed
  from generate_series(%(begins)s::timestamptz, %(ends)s::timestamptz - interval '1 minute', '1 minute') m(at)
 cross join lateral (
   select sum(count) as requests, sum(count) filter (where status >= 500) as failed from request_counts
    where minute = m.at and shop = (select slug from shops where id = %(shop_id)s)
      and outcome <> all(%(no_fault)s)) c
"""
# A provider sends a webhook again that got 503: the same delivery key, some time later.
_FIND_EVENT = """
select id from inbound_events
 where shop_id = %(shop_id)s and provider = %(provider)s and topic = %(topic)s
   and delivery_key = %(delivery_key)s
"""
_LIST_MUTATIONS = """
select e.at, e.shop_id, e.staff_label, e.action, m.table_name, m.row_id, m.summary
  from audit_events e join audit_mutations m on m.event_id = e.id
 where e.request_id = %(request_id)s and e.at >= %(at)s::timestamptz - interval '1 day'
 order by e.id, m.place
"""


class RequestError(NamedTuple):
    """A request that was answered with 5xx.

    ``error_class`` is the class of the exception at its origin, ``reason`` a text of our own, or empty.
    ``request`` has method and path, and of a webhook its topic and ids.
    """

    request_id: str
    at: datetime
    shop: str
    route: str
    status: int
    error_class: str
    reason: str
    staff_label: str
    request: Mapping[str, str]


def find_origin(fault: BaseException) -> BaseException:
    """Return the first exception of the chain that led to ``fault``."""
    while fault.__cause__ is not None:
        fault = fault.__cause__
    return fault


def clean_text(text: str) -> str:
    """Return a text from outside, decoded, as it may be stored: short, printable, without personal data."""
    text = _PHONE.sub("[phone]", redact_text(unquote(text[: 4 * MAX_TEXT])))[:MAX_TEXT]
    return text if text.isascii() and text.isprintable() else ascii(text)


def record_errors(tx: Connection, errors: Sequence[RequestError], shop_ids: Mapping[str, int]) -> None:
    """Record ``errors``. One of a shop without an id belongs to the fleet."""
    rows = [(*one[:2], shop_ids.get(one.shop), *one[3:]) for one in errors]
    names = [column.name for column in request_errors.columns]
    upsert_rows(tx, request_errors, dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def list_errors(
    tx: Connection,
    *,
    since: datetime | None = None,
    error_class: str = "",
    shop_id: int | None = None,
    route: str = "",
    limit: int = 50,
) -> Page[Row[Any]]:
    """Return the errors that match, newest first."""
    query = select(request_errors).order_by(request_errors.c.at.desc(), request_errors.c.request_id)
    if since is not None:
        query = query.where(request_errors.c.at >= since)
    if shop_id is not None:
        query = query.where(request_errors.c.shop_id == shop_id)
    for name, value in (("error_class", error_class), ("route", route)):
        if value:
            query = query.where(request_errors.c[name] == value)
    return fetch_page(tx, query, limit)


def count_requests(tx: Connection, shop_id: int, begins: datetime, ends: datetime) -> dict[str, int]:
    """Return ``count`` and ``failed`` (5xx) of the requests about the shop from ``begins`` until ``ends``.

    ``begins`` and ``ends`` are whole minutes. Ingress writes its counts every two seconds.
    """
    values = {"shop_id": shop_id, "begins": begins, "ends": ends, "no_fault": list(NO_FAULT)}
    return dict(tx.exec_driver_sql(_COUNT_REQUESTS, values).one()._mapping)


def list_recorded(tx: Connection, column: str) -> list[str]:
    """Return the values of ``column`` of all errors."""
    return list(tx.execute(select(request_errors.c[column]).distinct().order_by(column)).scalars())


def get_error(tx: Connection, request_id: str) -> Row[Any]:
    """Return the error of this request; raise ``InputInvalid`` if none is recorded."""
    found = tx.execute(select(request_errors).where(request_errors.c.request_id == request_id)).first()
    if found is None:
        raise InputInvalid(
            f"no error of the request {request_id!r} is recorded: it should be the X-Request-Id of an answer "
            "with 5xx; `fleet errors list` lists them"
        )
    return found


def find_later_event(tx: Connection, error: Row[Any]) -> int | None:
    """Return the event of the webhook of ``error``, if the provider sent it again and it was recorded."""
    request = error.request
    if not request.get("delivery_key"):
        return None
    keys = {name: request[name] for name in ("provider", "topic", "delivery_key")}
    found: int | None = tx.exec_driver_sql(_FIND_EVENT, keys | {"shop_id": error.shop_id}).scalar()
    return found


def list_mutations(tx: Connection, error: Row[Any]) -> list[Row[Any]]:
    """Return the changes that the audit has under the request id of ``error``."""
    values = {"request_id": error.request_id, "at": error.at}
    return list(tx.exec_driver_sql(_LIST_MUTATIONS, values))
