"""Options, confirmation and errors of the ``fleet`` and ``celery`` commands.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import getpass
import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

import click
from psycopg.errors import InsufficientPrivilege, UndefinedTable
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.core.clock import FIRST_YEAR, LAST_YEAR, is_plausible, utc_now
from services.core.durations import parse_moment
from services.core.errors import InputInvalid, ShopfleetError
from services.core.fields import LARGEST_ID
from services.core.log_redaction import quote_value
from services.jobs.definition import Covers
from services.jobs.schedule import period_bounds
from services.ledger.accept import WorkRef
from services.shops.shops import get_shop

P = ParamSpec("P")
R = TypeVar("R")
Decorator = Callable[[Any], Any]

MAX_MESSAGES = 5000
"""Above this count the sweep sends the messages, at the rate of the workers."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
force_option = click.option("-f", "--force", is_flag=True, help="Act without a question.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
actor_option = click.option(
    "--actor", "--as", "actor", default="", help="Who acts, for the audit (default: you)."
)
ID = click.IntRange(1, LARGEST_ID)
"""The type of an option or an argument that is the id of a row, or an id of a provider."""
limit_option = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Most rows to show."
)


def add_options(*options: Decorator) -> Decorator:
    """Return a decorator that adds ``options`` in this order."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def hidden_alias(command: click.Command, name: str) -> click.Command:
    """Return ``command`` under its old ``name``, which is in no list of commands."""
    alias = copy(command)
    alias.name, alias.hidden = name, True
    return alias


def csv_option(columns: str, *, is_required: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the option ``--csv``, a file with ``columns``; ``read_csv_file`` reads it."""
    return click.option(
        "--csv",
        "file",
        required=is_required,
        type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
        help=f"A file with the columns {columns}; - reads standard input.",
    )


def read_csv_file(file: Path) -> str:
    """Return the text of ``file`` without its byte order mark; other encodings than UTF-8 exit with 1."""
    try:
        with click.open_file(str(file), encoding="utf-8-sig") as lines:
            return str(lines.read())
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file} is not text in UTF-8: save it as CSV in UTF-8") from error


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Print the project's errors and database errors in one line, and end with the right exit code.

    An option or an argument with bytes that are not UTF-8 is wrong usage.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        _check_text(kwargs)
        try:
            return command(*args, **kwargs)
        except InputInvalid as error:
            raise click.UsageError(str(error)) from error
        except ShopfleetError as error:
            raise click.ClickException(str(error)) from error
        except PoolTimeout as error:
            raise click.ClickException("no free database connection: `fleet doctor` shows why") from error
        except DBAPIError as error:
            raise click.ClickException(_describe_database_error(error)) from error

    return run


def _check_text(options: Mapping[str, object]) -> None:
    for name, value in options.items():
        for text in value if isinstance(value, tuple) else (value,):
            # Python reads a byte that is not UTF-8 as half a surrogate pair, which no database stores.
            if isinstance(text, str) and text.encode(errors="replace").decode() != text:
                raise click.UsageError(f"{name}={quote_value(text, name)} should be text in UTF-8")


class ReportingCommand(click.Command):
    """A command with ``report_errors``."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **attributes | {"callback": report_errors(attributes["callback"])})


class CommandGroup(click.Group):
    """A group whose commands have ``report_errors``."""

    command_class = ReportingCommand


def _describe_database_error(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    reason = lines[0] if lines else type(error.orig).__name__
    if isinstance(error.orig, UndefinedTable):
        return "the database has no tables yet, or older ones: run `fleet migrate`"
    if isinstance(error.orig, InsufficientPrivilege):
        return f"the database refuses this role: {reason}. `fleet migrate` grants its rights"
    if error.connection_invalidated or type(error.orig).__name__ == "OperationalError":
        return f"the database is not reachable: {reason}. Is the fleet up? `fleet doctor` shows more"
    return f"the database refused: {reason}"


def operator_label(actor: str) -> str:
    """Return who acts: ``actor``, or without one the operating system's user."""
    if actor.strip():
        return actor.strip()
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number and no name
        return f"uid {os.getuid()}"


def new_request_id() -> str:
    """Return the request id of one command's audit events."""
    return uuid4().hex


def audit_author(actor: str) -> dict[str, str]:
    """Return the arguments ``by`` and ``request_id`` of a change that the audit records."""
    return {"by": operator_label(actor), "request_id": new_request_id()}


def confirm(question: str, *, force: bool) -> None:
    """Return if the operator agrees, or with ``force``; else exit with 1."""
    if force:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        raise click.ClickException("no answer, so nothing was changed: -f skips the question") from None
    if not agreed:
        raise click.ClickException("nothing was changed")


def find_shop_id(tx: Connection, slug: str) -> int | None:
    """Return the id of the shop ``slug``, or None for an empty one; raise ``ShopUnknown``."""
    return get_shop(tx, slug).id if slug else None


def notify_workers(work: Sequence[WorkRef]) -> str:
    """Send messages for committed ``work``; return a note for the operator if the sweep has to send them."""
    if not work:
        return ""
    if len(work) > MAX_MESSAGES:
        return "The sweep sends them within seconds."
    from services.ledger.dispatch import send_messages  # kombu is slow to load; few commands need it

    return "" if send_messages(work) else "The broker is not reachable: the sweep sends them later."


def parse_since(text: str) -> datetime | None:
    """Return the moment of an option such as ``24h`` or ``2026-11-20``, or None for an empty one."""
    return parse_moment(text, utc_now()) if text else None


def check_period(covers: Covers, text: str) -> None:
    """Raise ``UsageError`` unless ``text`` is a period of the kind ``covers``, of plausible years."""
    try:
        if is_plausible(period_bounds(covers, text, UTC)[0]):
            return
    except (ValueError, OverflowError):
        pass
    example = "2026-11-20" if covers is Covers.DAY else "2026-10"
    years = f"of the years {FIRST_YEAR} to {LAST_YEAR}"
    raise click.UsageError(f"{covers}={text!r} should be a {covers} such as {example}, {years}")


def format_count(count: int, noun: str) -> str:
    """Return such as ``1 event`` or ``3 events``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def split_list(text: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated option such as ``dead,error``."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
