"""Every example in the help of a command runs as written, as far as its command line can be parsed."""

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from celery.bin.celery import celery

from services.cli.main import main

CELERY: dict[str, click.Command] = {
    **celery.commands,
    **{entry.name: entry.load() for entry in entry_points(group="celery.commands")},
}


def walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command) as ctx:
            for name in command.list_commands(ctx):
                sub = command.get_command(ctx, name)
                assert sub is not None
                yield from walk(sub, f"{path} {name}")


def examples(help_text: str) -> list[str]:
    """The command lines after ``Example:`` or ``Examples:``, up to an empty line, each without the shell."""
    blocks = re.findall(r"Examples?:(.*?)(?:\n\s*\n|\Z)", help_text + "\n\n", re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    parts = [re.sub(r'^eval "\$\((.*)\)"$', r"\1", part) for line in lines for part in line.split(" && ")]
    return [re.split(r" [<>|] ", part)[0] for part in parts]


def parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Raise ``UsageError`` for an unknown command or option, and a missing or wrong argument.

    A command remembers its help option, whose names come from ``parent``.
    """
    with command.make_context(words[0], words[1:], parent=parent) as ctx:
        if isinstance(command, click.Group):
            name, sub, rest = command.resolve_command(ctx, [*ctx._protected_args, *ctx.args])
            assert sub is not None
            parse(sub, [str(name), *rest], ctx)


def parse_line(line: str) -> None:
    words = shlex.split(line)
    if words[:3] == ["celery", "-A", "tasks"]:
        parse(CELERY[words[3]], words[3:])
    else:
        assert words[0] == "fleet", line
        parse(main, words)


OPERATOR_COMMANDS = [
    ("celery " + entry.name, CELERY[entry.name]) for entry in entry_points(group="celery.commands")
]

FOUND = [
    pytest.param(line, id=f"{path}: {line}")
    for path, command in [*walk(main, "fleet"), *OPERATOR_COMMANDS]
    for line in examples(f"{command.help or ''}\n\n{command.epilog or ''}")
]


@pytest.mark.parametrize("line", FOUND)
def test_an_example_parses(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for word in shlex.split(line):
        if word.endswith((".csv", ".json", ".txt")):
            Path(word).touch()

    parse_line(line)


def test_examples_are_found() -> None:
    assert len(FOUND) > 60


@pytest.mark.parametrize(
    "line",
    ["fleet evnts list", "fleet events list --shopp harbour", "fleet events show", "fleet events show x"],
)
def test_a_wrong_example_is_noticed(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse_line(line)
