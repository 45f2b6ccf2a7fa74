"""What every operator's command shares: who acts, asking first, and faults told in a line with an exit code.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import getpass
import os
from collections.abc import Callable, Sequence
from copy import copy
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar
from uuid import uuid4

import click
from psycopg.errors import InsufficientPrivilege, UndefinedTable
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.alerts.decide import IncidentInvalid
from services.core.durations import TimeInvalid
from services.core.errors import ShopfleetError
from services.jobs.schedule import PeriodInvalid, ScheduleInvalid
from services.jobs.store import JobUnknown
from services.jobs.trigger import ScopeInvalid
from services.ledger.accept import WorkRef
from services.ledger.filters import FilterInvalid
from services.providers.secrets import SecretInvalid
from services.shops.shops import ShopInvalid, ShopUnknown, get_shop

P = ParamSpec("P")
R = TypeVar("R")

_WRONG_USAGE = (
    FilterInvalid,
    IncidentInvalid,
    JobUnknown,
    PeriodInvalid,
    ScheduleInvalid,
    ScopeInvalid,
    SecretInvalid,
    ShopInvalid,
    ShopUnknown,
    TimeInvalid,
)
RING_AT_MOST = 5000
"""More than this is left to the sweep, which sends as fast as workers take."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
force_option = click.option("-f", "--force", is_flag=True, help="Act without asking.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would be touched; change nothing.")
as_option = click.option("--as", "acting_as", default="", help="Who acts, for the audit (default: you).")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Most rows to show."
)


def hidden_alias(command: click.Command, name: str) -> click.Command:
    """Return ``command`` under its old ``name``, which works and is in no list of commands."""
    alias = copy(command)
    alias.name, alias.hidden = name, True
    return alias


def csv_option(columns: str, *, is_required: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the option ``--csv``, a file with ``columns``; the command reads it with ``read_csv_file``."""
    return click.option(
        "--csv",
        "file",
        required=is_required,
        type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
        help=f"A file with the columns {columns}; - reads standard input.",
    )


def read_csv_file(file: Path) -> str:
    """Return the text of ``file``, without a byte order mark; what is not UTF-8 ends with exit code 1."""
    try:
        with click.open_file(str(file), encoding="utf-8-sig") as lines:
            return str(lines.read())
    except UnicodeDecodeError as fault:
        raise click.ClickException(f"{file} is not text in UTF-8: save it as CSV in UTF-8") from fault


def tell_faults(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the project's errors, and a database that is away, into one line and the right exit code."""

    @wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except _WRONG_USAGE as fault:
            raise click.UsageError(str(fault)) from fault
        except ShopfleetError as fault:
            raise click.ClickException(str(fault)) from fault
        except PoolTimeout as fault:
            raise click.ClickException("the database gave no connection: `fleet doctor` says why") from fault
        except DBAPIError as fault:
            raise click.ClickException(_database_fault(fault)) from fault

    return told


def _database_fault(fault: DBAPIError) -> str:
    if isinstance(fault.orig, UndefinedTable):
        return "the database has no tables yet, or older ones: run `fleet migrate`"
    if isinstance(fault.orig, InsufficientPrivilege):
        return f"the database refuses this role: {_first_line(fault)}. `fleet migrate` grants its rights"
    if fault.connection_invalidated or type(fault.orig).__name__ == "OperationalError":
        return f"the database is away: {_first_line(fault)}. Is the fleet up? `fleet doctor` says more"
    return f"the database refused: {_first_line(fault)}"


def _first_line(fault: DBAPIError) -> str:
    return str(fault.orig).strip().splitlines()[0] if str(fault.orig).strip() else type(fault.orig).__name__


def operator_label(acting_as: str) -> str:
    """Return who acts: the name given, else the operating system's user."""
    if acting_as.strip():
        return acting_as.strip()
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number and no name
        return f"uid {os.getuid()}"


def new_request_id() -> str:
    """Return an id for one command, under which its audit events are found."""
    return uuid4().hex


def ask(question: str, *, force: bool) -> None:
    """Return if the person agrees (or ``force`` does); else end with exit code 1 and nothing changed."""
    if force:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        raise click.ClickException("no answer, so nothing was changed: -f acts without asking") from None
    if not agreed:
        raise click.ClickException("nothing was changed")


def find_shop_id(tx: Connection, slug: str) -> int | None:
    """Return the id of the shop ``slug``, or None for no slug; an unknown slug raises ``ShopUnknown``."""
    return get_shop(tx, slug).id if slug else None


def ring(work: Sequence[WorkRef]) -> str:
    """Tell the workers of committed ``work`` if the broker is there; return a word on it for the person."""
    if not work:
        return ""
    if len(work) > RING_AT_MOST:
        return "The sweep sends them within seconds."
    from services.ledger.dispatch import send_messages  # kombu is slow to load, and most commands ring nobody

    return "" if send_messages(work) else "The broker is away: the sweep sends them once it is back."


def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a comma-separated option such as ``dead,error``."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
