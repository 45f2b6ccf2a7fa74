"""A value that does not exist ends every command with exit code 2, before it does anything."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from services.cli.main import main
from services.cli.params import KnownType, OutputPath, ParsedType, PeriodType, RowType, ShopType, StoredType
from tests.cli.conftest import harbour
from tests.structure.test_command_options import COMMANDS

__all__ = ["harbour"]

_TEXTS = {
    "duration": "2h",
    "time": "2026-11-20T08:00Z",
    "provider": "shopify",
    "secret": "shopify-webhook",
    "day": "2090-01-01",
}
_TEXTS |= {"address": "ada@example.com", "url": "http://127.0.0.1:1"}

CASES = [
    (path, param)
    for path, command in COMMANDS.items()
    for param in command.params
    if isinstance(param.type, StoredType) and not isinstance(param.type, PeriodType)
    # The first value that does not exist is refused, and this test has no valid row for a required one.
    if param.required
    or not any(
        one.required and isinstance(one.type, StoredType) and not isinstance(one.type, ShopType)
        for one in command.params
    )
]


def make_value(param: click.Parameter, folder: Path) -> str:
    """Return a value that ``param`` can read; whether it exists is another check."""
    kind = param.type
    if isinstance(kind, KnownType):
        return next(iter(kind._values()))
    if isinstance(kind, click.Choice):
        return str(next(iter(kind.choices)))
    if isinstance(kind, ShopType):
        return "harbour"
    if isinstance(kind, OutputPath):
        return str(folder)
    if isinstance(kind, ParsedType):
        return _TEXTS.get(kind.name, "x")
    return {"file": "-", "month": "2026-10", "day": "2026-10-01"}.get(kind.name, "1")


def make_line(path: str, wrong: click.Parameter, folder: Path) -> list[str]:
    """Return the command line with the value of ``wrong`` that does not exist, and what else is required."""
    words = path.split()[1:]
    for param in COMMANDS[path].params:
        if param.required or param is wrong:
            unknown = "99999" if isinstance(param.type, RowType) else "no-such-value"
            value = unknown if param is wrong else make_value(param, folder)
            words += [max(param.opts, key=len)] if isinstance(param, click.Option) else []
            words += [] if getattr(param, "is_flag", False) else [value]
    return words


@pytest.mark.usefixtures("harbour")
def test_an_unknown_value_is_wrong_input(engine: Engine, tmp_path: Path) -> None:
    count = text("select count(*) from audit_events")
    with engine.connect() as tx:
        before = tx.execute(count).scalar()
    wrong = []
    for path, param in CASES:
        words = make_line(path, param, tmp_path)
        is_fleet = path.startswith("fleet")
        refused = CliRunner().invoke(
            main if is_fleet else COMMANDS[path], words if is_fleet else words[1:], input=""
        )
        is_named = "no-such-value" in refused.stderr or "99999" in refused.stderr
        if (refused.exit_code, refused.stdout, is_named) != (2, "", True):
            wrong.append((path, param.name, refused.exit_code, refused.output))

    assert len(CASES) > 100
    assert wrong == []
    with engine.connect() as tx:
        assert tx.execute(count).scalar() == before, "a refused command changed something"
