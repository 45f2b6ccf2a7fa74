"""Output of the commands: tables for people, ``--json`` for programs.

Control characters are printed as escapes, so that the text of a webhook cannot control a terminal.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

import click
import orjson

from services.core.db import MAX_COUNTED, Page
from services.core.times import format_time

PIPE_WIDTH = 200
"""Width without a terminal, in columns; a smaller one would cut ids in a log."""

Columns = Mapping[str, str | Callable[[Any], object]]
"""A table of objects: its headings, each with an attribute's name or a function of the object."""


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON: times in UTC, dataclasses as objects; ``dry_run`` if it is one."""
    ctx = click.get_current_context(silent=True)
    if isinstance(value, dict) and ctx is not None and ctx.params.get("dry_run"):
        value = {"dry_run": True, **value}
    options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
    click.echo(orjson.dumps(value, default=str, option=options).decode())


def print_unchanged(message: str) -> None:
    """Print why there is nothing to do, with ``--json`` as ``changed`` and ``message``."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None and ctx.params.get("as_json"):
        print_json({"changed": False, "message": message})
    else:
        click.echo(message)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print ``rows`` as a table, or the text ``empty`` without rows. Numbers are right-aligned."""
    if not rows:
        click.echo(empty)
        return
    # Imported here, because every celery process loads these commands and few print a table.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        is_number = all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(safe_text(_cell(value))) for value in row))
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(file=sys.stdout, width=width, highlight=False, emoji=False).print(table)


def print_lines(title: str, columns: Columns, lines: Sequence[Any], empty: str) -> None:
    """Print ``lines`` as a table, or the text ``empty`` without lines."""
    readers = [attrgetter(column) if isinstance(column, str) else column for column in columns.values()]
    print_table(title, tuple(columns), [[read(line) for read in readers] for line in lines], empty)


def print_list(
    title: str, columns: Columns, lines: Sequence[Any], documents: Sequence[Any], empty: str, *, as_json: bool
) -> None:
    """Print ``documents`` as JSON, or their ``lines`` as a table; then whether there are more."""
    if as_json:
        print_json(documents)
    else:
        print_lines(title, columns, lines, empty)
    warn_if_cut(lines)


def warn_if_cut(lines: Sequence[Any]) -> None:
    """Print to stderr how many rows there are if ``lines`` is a page of more."""
    if isinstance(lines, Page) and lines.total > len(lines):
        more = f"more than {MAX_COUNTED:,}" if lines.total > MAX_COUNTED else f"{lines.total:,}"
        click.echo(f"{len(lines)} of {more} shown: --limit N", err=True)


def print_fields(title: str, fields: Mapping[str, object]) -> None:
    """Print one object's fields, a line each; a field without a value shows ``-``."""
    click.echo(click.style(safe_text(title), bold=True))
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        click.echo(f"  {name:<{width}}  {safe_text(_cell(value))}")


def to_document(value: Any) -> dict[str, Any]:
    """Return a dataclass, a named tuple or a row as a plain dictionary for ``print_json``."""
    return asdict(value) if is_dataclass(value) else dict(value._asdict())  # type: ignore[arg-type]


def safe_text(text: str) -> str:
    """Return ``text`` with control characters, except line breaks, as escapes such as ``\\x1b``."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    return format_time(value, with_seconds=True) if isinstance(value, datetime) else str(value)
