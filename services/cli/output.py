"""How commands print: tables for people, ``--json`` for programs.

Whatever came from outside is shown with its control characters spelled out, so that a webhook's text
cannot steer an operator's terminal.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson

from services.core.settings import get_settings

PIPE_WIDTH = 200
"""Columns when the output is no terminal; a narrow default would cut ids in a log."""


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON: times in UTC, dataclasses as objects."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
    click.echo(orjson.dumps(value, default=str, option=options).decode())


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print ``rows`` as a table, or ``empty`` when there are none. Numbers stand on the right."""
    if not rows:
        click.echo(empty)
        return
    # Imported here: every celery process loads these commands, and only a person's needs tables.
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


def print_fields(title: str, fields: Mapping[str, object]) -> None:
    """Print one thing's fields, a line each; those without a value show ``-``."""
    click.echo(click.style(safe_text(title), bold=True))
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        click.echo(f"  {name:<{width}}  {safe_text(_cell(value))}")


def to_document(value: Any) -> dict[str, Any]:
    """Return a dataclass as a plain dictionary for ``print_json``."""
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} is no dataclass")
    return asdict(value)


def format_time(at: datetime | None, zone: ZoneInfo | None = None) -> str:
    """Return ``at`` in ``zone`` (by default the fleet's), with the zone's name; ``-`` for none."""
    return "-" if at is None else f"{at.astimezone(zone or get_settings().zone):%Y-%m-%d %H:%M:%S %Z}"


def safe_text(text: str) -> str:
    """Return ``text`` with every control character but the line break spelled out as ``\\x1b``."""
    return "".join(char if char.isprintable() or char == "\n" else _spelled(char) for char in text)


def _spelled(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    return format_time(value) if isinstance(value, datetime) else str(value)
