"""Parameter types of the commands: each refuses a value that does not exist with exit code 2.

The message names the value, the valid values and the closest of them. A type whose values are in the
database is a ``StoredType``: ``ReportingCommand`` checks it once all options are parsed, before the command
begins, so that a help text needs no database.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from errno import EACCES, EISDIR, ENOTDIR
from functools import partial
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import click
from sqlalchemy import Connection

from services.alerts.rules import RULES
from services.core.clock import FIRST_YEAR, LAST_YEAR, is_plausible, utc_now
from services.core.durations import explain_date, parse_moment, parse_positive_duration, parse_time
from services.core.errors import InputInvalid, describe_unknown, did_you_mean
from services.core.fields import LARGEST_ID
from services.core.times import format_time
from services.jobs.definition import Covers
from services.jobs.schedule import period_bounds
from services.jobs.store import find_jobs
from services.ledger.request_errors import get_error, list_recorded
from services.ledger.tables import STATUSES
from services.ledger.topics import COSTS, QUEUES, TOPICS
from services.providers.openphone import EVENT_TYPES
from services.providers.registry import SENDERS, WEBHOOK_PROVIDERS, get_secret_kind
from services.providers.stripe import list_event_types
from services.shopify.subscriptions.plan import WANTED
from services.shops.fields import OF_POOL
from services.shops.shops import get_shop, list_shops

_RULES_OF_JOBS = ("cron_did_not_run", "job_failed", "run_too_short", "volume_too_small")

# One look into the index of deliveries for each topic, because the table may be large.
_RECORDED_TOPICS = """
with recursive topics as (
  (select shop_id, provider, topic from inbound_events order by shop_id, provider, topic limit 1)
  union all
  select next.* from topics t cross join lateral (
    select shop_id, provider, topic from inbound_events
     where (shop_id, provider, topic) > (t.shop_id, t.provider, t.topic)
     order by shop_id, provider, topic limit 1) next
)
select distinct topic from topics
"""
_SOURCES = """
select distinct replace(name, '-webhook:', ':') from shop_secrets where name like '%%-webhook:%%' order by 1
"""


class KnownType(click.ParamType[Any]):
    """A text of a closed set, or with ``is_list`` several of them, comma-separated, as a tuple."""

    def __init__(self, name: str, values: Callable[[], Iterable[str]], *, is_list: bool = False) -> None:
        self.name, self._values, self._is_list = name, values, is_list

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()] if self._is_list else [value]
        known = [*self._values()]
        for part in filter(None, parts):
            if part not in known:
                self.fail(describe_unknown(part, known), param, ctx)
        return tuple(parts) if self._is_list else value


class InputFile(click.ParamType[Path]):
    """A file that this process can read, or - for standard input."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        try:
            if str(path) != "-" and S_ISDIR(path.stat().st_mode):
                raise IsADirectoryError(EISDIR, "is a folder")
            if str(path) != "-" and not os.access(path, os.R_OK):
                raise PermissionError(EACCES, os.strerror(EACCES))
        except OSError as fault:
            advice = "name a file that this user can read, or - for standard input"
            self.fail(f"{path.absolute()}: {fault.strerror}; {advice}", param, ctx)
        return path


class OutputPath(click.ParamType[Path]):
    """A file or folder that this process can write; missing folders of a folder are made later."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value).absolute()
        try:
            self._check(path)
        except OSError as fault:
            self.fail(f"{path}: {fault.strerror}; name a {self.name} that this user can write", param, ctx)
        return path

    def _check(self, path: Path) -> None:
        is_file = self.name == "file" and path.exists()
        place = next(each for each in (path, *path.parents) if each.exists())
        if self.name == "file" and not is_file:
            place = path.parent
        is_folder = S_ISDIR(place.stat().st_mode)
        if is_file and is_folder:
            raise IsADirectoryError(EISDIR, "is a folder")
        if not is_file and not is_folder:
            raise NotADirectoryError(ENOTDIR, f"{place} is not a folder")
        if not os.access(place, os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))


class ParsedType(click.ParamType[Any]):
    """A text that ``parse`` accepts; its ``InputInvalid`` is the message."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except InputInvalid as fault:
            self.fail(str(fault), param, ctx)


class StoredType(click.ParamType[Any]):
    """A value of the database. ``check`` raises ``InputInvalid`` for one that does not exist."""

    def check(self, tx: Connection, value: Any, values: Mapping[str, Any]) -> None:
        """Raise ``InputInvalid`` unless ``value`` exists; ``values`` are those of all the parameters."""
        raise NotImplementedError


class ShopType(StoredType):
    """A shop's slug."""

    name = "shop"

    def check(self, tx: Connection, value: Any, values: Mapping[str, Any]) -> None:  # noqa: ARG002
        get_shop(tx, value, is_removed_allowed=True)  # the command decides whether it takes one


class RequestType(StoredType):
    """The id of a request that was answered with 5xx."""

    name = "request id"

    def check(self, tx: Connection, value: Any, values: Mapping[str, Any]) -> None:  # noqa: ARG002
        get_error(tx, value)


class NameType(StoredType):
    """A name in the database, of a closed set at this moment."""

    def __init__(self, name: str, find: Callable[[Connection], Iterable[str]], hint: str = "") -> None:
        self.name, self._find, self._hint = name, find, hint

    def check(self, tx: Connection, value: Any, values: Mapping[str, Any]) -> None:  # noqa: ARG002
        known = []
        for name in self._find(tx):
            if name == value:
                return
            known.append(name)
        if self is RULE:
            close = did_you_mean(value, known)
            raise InputInvalid(f"there is no rule {value!r}: `fleet alerts list` has all{close}")
        raise InputInvalid(describe_unknown(value, known) + self._hint)


class RowType(StoredType):
    """The id of a row of ``table``; ``or_sql`` is true for another id that is valid."""

    def __init__(self, noun: str, table: str, command: str, or_sql: str = "false") -> None:
        self.name, self._noun, self._table, self._command = f"{noun} id", noun, table, command
        self._or_sql = or_sql

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not (value.isascii() and value.isdecimal() and 0 < int(value) <= LARGEST_ID):
            self.fail(f"{value!r} should be the number of a row: `{self._command}` lists them", param, ctx)
        return int(value)

    def check(self, tx: Connection, value: Any, values: Mapping[str, Any]) -> None:  # noqa: ARG002
        exists = f"select exists (select from {self._table} where id = %(id)s) or {self._or_sql}"  # noqa: S608
        if tx.exec_driver_sql(exists, {"id": value}).scalar():
            return
        newest = tx.exec_driver_sql(f"select max(id) from {self._table}").scalar()  # noqa: S608
        others = f"the newest is {newest}, `{self._command}` lists them" if newest else "there is none yet"
        raise InputInvalid(f"there is no {self._noun} {value}: {others}")


class PeriodType(StoredType):
    """A day or a month that has begun in the zone of the shop of the same command."""

    def __init__(self, covers: Covers) -> None:
        self.name, self._covers = covers.value, covers

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value or "")
        if text and not self._is_valid(text):
            example = "2026-11-20" if self._covers is Covers.DAY else "2026-10"
            why = f"of the years {FIRST_YEAR} to {LAST_YEAR}{explain_date(text)}"
            self.fail(f"{text!r} should be a {self._covers} such as {example}, {why}", param, ctx)
        return text

    def _is_valid(self, text: str) -> bool:
        try:
            return is_plausible(period_bounds(self._covers, text, UTC)[0])
        except (ValueError, OverflowError):
            return False

    def check(self, tx: Connection, value: Any, values: Mapping[str, Any]) -> None:
        zone = get_shop(tx, values.get("shop") or values["slug"], is_removed_allowed=True).zone
        begins, _ = period_bounds(self._covers, value, zone)
        if begins > utc_now():
            raise InputInvalid(f"{value!r} is in the future: it begins {format_time(begins, zone)}")


def _parse_since(text: str) -> datetime:
    if (at := parse_moment(text, now := utc_now())) >= now:
        when = "in the future" if at > now else "now"
        raise InputInvalid(f"{text!r} is {when}: it should be before {format_time(now, UTC)}")
    return at


def _find_providers(tx: Connection) -> list[str]:
    """Return the senders of events: ``standard:<source>`` for each source with a secret or an event."""
    fixed = [name for name, provider in SENDERS.items() if not provider.has_sources]
    return fixed + list(tx.exec_driver_sql(_SOURCES).scalars())


def _find_event_topics(tx: Connection) -> Iterator[str]:
    """Yield the topics that providers can send, and all that were recorded."""
    for provider in WEBHOOK_PROVIDERS.values():
        yield from (topic for topic, _ in provider.topics if "*" not in topic)
    yield from WANTED
    yield from EVENT_TYPES
    yield from tx.exec_driver_sql(_RECORDED_TOPICS).scalars()
    yield from list_event_types()


def _find_pools(tx: Connection) -> list[str]:
    owners = {shop.stock_owner for shop in list_shops(tx)}
    return sorted(owner.removeprefix(OF_POOL) for owner in owners if owner.startswith(OF_POOL))


def _find_emails(tx: Connection) -> list[str]:
    from services.accounts.people import list_people  # with the mails' templates: 0.1 s of each other command

    return [one.email for one in list_people(tx)]


def _find_rules(tx: Connection) -> list[str]:
    of_jobs = [f"{rule}:{job}" for rule in RULES if rule in _RULES_OF_JOBS for job in find_jobs(tx)]
    recorded = tx.exec_driver_sql("select distinct rule from incidents").scalars()
    return [*RULES, *(f"work_dead:{topic}" for topic in TOPICS), *of_jobs, *recorded]


QUEUE = KnownType("queue", lambda: QUEUES)
TOPIC = KnownType("topic", lambda: TOPICS)
COST = KnownType("cost", lambda: COSTS)
WORK_STATUSES = KnownType("statuses", lambda: STATUSES, is_list=True)
INPUT_FILE = InputFile()
OUTPUT_FILE, OUTPUT_FOLDER = OutputPath("file"), OutputPath("folder")
SECRET = ParsedType("secret", get_secret_kind)
DURATION = ParsedType("duration", parse_positive_duration)
SINCE = ParsedType("time", _parse_since)
TIME = ParsedType("time", parse_time)
UNTIL = ParsedType("time", lambda text: parse_moment(text, utc_now()))
SHOP = ShopType()
PROVIDER = NameType("provider", _find_providers)
EVENT_TOPIC = NameType("topic", _find_event_topics)
JOB = NameType("job", find_jobs)
RULE = NameType("rule", _find_rules)
REQUEST = RequestType()
PERSON = NameType("email", _find_emails)
ERROR_CLASS = NameType("class", partial(list_recorded, column="error_class"))
ROUTE = NameType("route", partial(list_recorded, column="route"))
POOL = NameType(
    "pool", _find_pools, ". A shop joins a pool with fleet shops set SHOP --stock-owner pool:NAME"
)
_IS_ARCHIVED = "exists (select from event_archives where event_ids @> array[%(id)s::bigint])"
EVENT = RowType("event", "inbound_events", "fleet events list", _IS_ARCHIVED)
WORK = RowType("work", "work_queue", "fleet work list")
INCIDENT = RowType("incident", "incidents", "fleet incidents list --all")
WINDOW = RowType("window", "quiet_windows", "fleet alerts quiet list --all")
MAIL = RowType("mail", "mail_outbox", "fleet mail list")
PRIVACY_REQUEST = RowType("privacy request", "privacy_requests", "fleet privacy list")
DAY, MONTH = PeriodType(Covers.DAY), PeriodType(Covers.MONTH)
