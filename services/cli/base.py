"""Options, confirmation and errors of the ``fleet`` and ``celery`` commands.

Exit codes: 0 done, or true already; 1 refused, failed or not fine; 2 wrong input. See docs/operations.md.
"""

import getpass
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

import click
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.cli.output import print_unchanged
from services.cli.params import INPUT_FILE, SHOP, SINCE, StoredType
from services.cli.server_errors import describe_database_error
from services.cli.usage import (
    FORCE_NAMES,
    PlainCommand,
    SuggestingGroup,
    name_options,
    usage_shown,
)
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import InputInvalid, NothingToDo, ShopfleetError, describe_server
from services.core.fields import LARGEST_ID, LONGEST_TEXT
from services.core.log_redaction import quote_value
from services.core.settings import get_settings
from services.ledger.accept import WorkRef
from services.shops.shops import get_shop

P = ParamSpec("P")
R = TypeVar("R")
Decorator = Callable[[Any], Any]

MAX_MESSAGES = 5000
"""Above this count the sweep sends the messages, at the rate of the workers."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
force_option = click.option(
    *FORCE_NAMES, "force", is_flag=True, help="Act without a question; scripts need it."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
actor_option = click.option(
    "--actor", "--as", "actor", default="", help="Who acts, for the audit (default: you)."
)
ID = click.IntRange(1, LARGEST_ID)
"""The type of an id of a provider; for the id of a row see ``RowType`` in ``services.cli.params``."""
limit_option = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Most rows to show."
)

shop_option = click.option("--shop", type=SHOP, default="", help="Only this shop (its slug).")
one_shop_option = click.option("--shop", type=SHOP, required=True, help="The shop (its slug).")
SHOP_ARGUMENT = "slug"
"""The shop in ``fleet shops``, which also takes ``--shop``; all other commands have the option."""
shop_argument = click.argument(SHOP_ARGUMENT, type=SHOP, metavar="SHOP")


def since_option(what: str) -> Decorator:
    """Return the option ``--since`` of a list of rows that were ``what`` since then."""
    return click.option(
        "--since", type=SINCE, help=f"Only {what} since: 24h, 2026-11-20 or 2026-11-20T08:00Z."
    )


def add_options(*options: Decorator) -> Decorator:
    """Return a decorator that adds ``options`` in this order."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def csv_option(columns: str, *, is_required: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the option ``--csv``, a file with ``columns``; ``read_csv_file`` reads it."""
    return click.option(
        "--csv",
        "file",
        required=is_required,
        type=INPUT_FILE,
        help=f"A file with the columns {columns}; - reads standard input.",
    )


def read_csv_file(file: Path) -> str:
    """Return the text of ``file`` without its byte order mark; other encodings than UTF-8 exit with 2."""
    try:
        with click.open_file(str(file), encoding="utf-8-sig") as lines:
            return str(lines.read())
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not text in UTF-8: save it as CSV in UTF-8") from error


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Print the project's errors and database errors in one line, and end with the right exit code."""

    @wraps(command)
    @usage_shown()
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except NothingToDo as found:
            print_unchanged(str(found))
            raise click.exceptions.Exit(0) from None
        except InputInvalid as error:
            raise click.UsageError(name_options(str(error))) from error
        except ShopfleetError as error:
            raise click.ClickException(name_options(str(error))) from error
        except click.Abort:  # no answer to a prompt; no command has one after a change
            click.echo(err=True)
            raise click.ClickException("stopped: nothing was changed") from None
        except (DBAPIError, PoolTimeout) as error:
            raise click.ClickException(describe_database_error(error)) from error

    return run


def _check_text(options: Mapping[str, object]) -> None:
    for name, value in options.items():
        for text in value if isinstance(value, tuple) else (value,):
            # Python reads a byte that is not UTF-8 as half a surrogate pair, which no database stores.
            if isinstance(text, str) and text.encode(errors="replace").decode() != text:
                fault = f"{name}={quote_value(text, name)} should be text in UTF-8"
                raise click.UsageError(name_options(fault))
            if name == "reason" and len(str(text)) > LONGEST_TEXT:
                length = format_count(len(str(text)), "character")
                fault = f"reason has {length}: it should have at most {LONGEST_TEXT:,}"
                raise click.UsageError(name_options(fault))


_MOVED = "shopfleet.shop_argument"
"""The key in ``Context.meta`` of an argument that was taken as the shop."""


class _Word(str):
    """A word of a command line that is told from an equal word by its identity."""

    __slots__ = ()


class ReportingCommand(PlainCommand):
    """A command with ``report_errors`` that begins once all its ``StoredType`` values exist.

    The shop is ``--shop`` in every command. ``fleet shops`` documents it as its argument, and other commands
    took it as one before 0.2: there ``shop_position`` is its place among the arguments, from 0.
    """

    def __init__(self, *args: Any, shop_position: int | None = None, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._shop_position = shop_position
        self._is_of_shops = any(
            isinstance(param, click.Argument) and param.name == SHOP_ARGUMENT for param in self.params
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self._is_of_shops:
            args = _move_to_argument(args)
        elif self._shop_position is not None:
            args = self._move_to_option(ctx, args, self._shop_position)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        return report_errors(self._invoke)(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        _check_text(ctx.params)
        stored = [
            (param, param.type, value)
            for param in self.params
            if isinstance(param.type, StoredType) and (value := ctx.params.get(param.name or ""))
        ]
        stored.sort(key=lambda one: one[1] is not SHOP)  # other values may depend on the shop
        if stored:
            with transaction() as tx:
                for param, kind, value in stored:
                    for one in value if isinstance(value, tuple) else (value,):
                        try:
                            kind.check(tx, one, ctx.params)
                        except InputInvalid as fault:
                            if kind is SHOP and ctx.meta.get(_MOVED) == one:
                                raise click.UsageError(f"name the shop with --shop: {fault}", ctx) from fault
                            raise click.BadParameter(str(fault), ctx, param) from fault
        return super().invoke(ctx)

    def _move_to_option(self, ctx: click.Context, args: list[str], position: int) -> list[str]:
        words = [_Word(word) for word in args]
        options = [param for param in self.params if isinstance(param, click.Option)]
        given, left, _ = click.Command(self.name, params=[*options]).make_parser(ctx).parse_args([*words])
        needed = sum(param.required for param in self.params if isinstance(param, click.Argument))
        if "shop" in given or len(left) <= max(position, needed):
            return args
        ctx.meta[_MOVED] = left[position]
        return ["--shop", left[position], *(word for word in words if word is not left[position])]


def _move_to_argument(args: list[str]) -> list[str]:
    for at, word in enumerate(args):
        if word == "--shop" and len(args) > at + 1:
            return [args[at + 1], *args[:at], *args[at + 2 :]]
        if word.startswith("--shop="):
            return [word.removeprefix("--shop="), *args[:at], *args[at + 1 :]]
    return args


class CommandGroup(SuggestingGroup):
    """A group whose commands have ``report_errors``."""

    command_class = ReportingCommand


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


def require_terminal(question: str) -> None:
    """Exit with 2 unless a person can answer ``question``: a script would wait for an answer for ever."""
    if not sys.stdin.isatty():
        reason = "No terminal for the answer, so nothing was changed: add -f to act without a question"
        raise click.UsageError(f"{reason}. The question is: {question}")


def confirm(question: str, *, force: bool) -> None:
    """Return if the operator agrees, or with ``force``; else exit with 1, without a terminal with 2."""
    if not force:
        require_terminal(question)
        if not click.confirm(question, err=True):
            raise click.ClickException("nothing was changed")


def find_shop_id(tx: Connection, slug: str) -> int | None:
    """Return the id of the shop ``slug``, or None for an empty one; raise ``ShopUnknown``."""
    return get_shop(tx, slug, is_removed_allowed=True).id if slug else None


def notify_workers(work: Sequence[WorkRef]) -> str:
    """Send messages for committed ``work``; return a note for the operator if the sweep has to send them."""
    if not work:
        return ""
    if len(work) > MAX_MESSAGES:
        return "The sweep sends them within seconds."
    from services.ledger.dispatch import send_messages  # kombu is slow to load; few commands need it

    if send_messages(work):
        return ""
    server = describe_server(get_settings().broker_url)
    return f"The broker at {server} is not reachable: the sweep sends them later."
