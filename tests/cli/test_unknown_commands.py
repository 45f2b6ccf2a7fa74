"""The error for an unknown command names what may be meant, and nothing that is not."""

import re
from pathlib import Path

import click
import pytest
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from services.cli.main import main
from services.cli.unknown_commands import MEANT
from tests.structure.test_examples import OPERATOR_COMMANDS


def invoke(line: str) -> Result:
    program, *words = line.split()
    return CliRunner().invoke(main if program == "fleet" else celery, words, prog_name=program)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("celery -A tasks logs", "journalctl -u 'shopfleet-*'"),
        ("celery -A tasks retry", "`celery -A tasks requeue`"),
        ("celery -A tasks queues", "`celery -A tasks backlog`"),
        ("celery -A tasks bakclog", "did you mean 'backlog'?"),
        ("celery -A tasks doctor", "here: it is `fleet doctor`"),
        ("celery -A tasks jobs", "here: it is `fleet jobs`"),
        ("fleet pause", "here: it is `celery -A tasks pause`"),
        ("fleet backlog", "here: it is `celery -A tasks backlog`"),
        ("fleet inspect", "here: it is `celery -A tasks inspect`"),
        ("fleet work requeue", "here: it is `celery -A tasks requeue`"),
        ("fleet shops backlog", "here: it is `celery -A tasks backlog`"),
    ],
)
def test_unknown_command_of_a_program_names_that_of_the_other(line: str, message: str) -> None:
    refused = invoke(line)

    assert refused.exit_code == 2
    error = refused.output.splitlines()[-1]
    assert error.startswith(f"Error: there is no command '{line.rsplit(maxsplit=1)[-1]}'")
    assert message in error


def test_command_of_a_newer_source_says_that_the_installation_is_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project.entry-points."fleet.commands"]\nnovelty = "x:y"\n')
    monkeypatch.setattr("services.cli.unknown_commands._PROJECT", project)

    refused = [invoke(f"{program} novelty") for program in ("fleet", "celery -A tasks")]

    assert [one.exit_code for one in refused] == [2, 2]
    assert all("the installation is older than the source, run `make setup`" in one.output for one in refused)


def test_other_apps_of_celery_keep_its_own_suggestions() -> None:
    refused = invoke("celery -A other bakclog")

    assert "No such command 'bakclog'" in refused.output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("costs", "`fleet shops costs SHOP`"),
        ("logs", "journalctl -u 'shopfleet-*'"),
        ("status", "`fleet doctor`"),
        ("shop", "did you mean 'shops'?"),
        ("doctr", "did you mean 'doctor'?"),
        ("month", "did you mean 'month-close'?"),
        ("cloves", "--help lists all"),
        ("shops delete", "did you mean 'remove'?"),
        ("shops costz", "did you mean 'costs'?"),
        ("incidents close", "did you mean 'resolve'?"),
        ("shops logs", "--help lists all"),
    ],
)
def test_unknown_command_names_what_may_be_meant(line: str, message: str) -> None:
    refused = CliRunner().invoke(main, line.split())

    assert refused.exit_code == 2
    error = refused.output.splitlines()[-1]
    assert error.startswith(f"Error: there is no command '{line.rsplit(maxsplit=1)[-1]}'")
    assert message in error


def test_help_of_a_group_cuts_no_summary() -> None:
    groups = ["", *(name for name, one in list_commands() if isinstance(one, click.Group))]

    assert len(groups) > 10
    assert [
        name for name in groups if "..." in invoke(f"fleet {name} --help").output.split("Commands:")[1]
    ] == []


def list_commands() -> list[tuple[str, click.Command | None]]:
    context = click.Context(main)
    return [(name, main.get_command(context, name)) for name in main.list_commands(context)]


def test_meanings_name_commands_that_exist() -> None:
    celerys = {path.split()[1] for path, _ in OPERATOR_COMMANDS} | {"purge", "worker", "status"}
    named = [line for text in MEANT.values() for line in re.findall(r"`([^`]+)`", text)]
    assert len(named) > 20
    for program, *words in map(str.split, named):
        command: click.Command | None = main
        if program == "celery":
            assert words[2] in celerys, words
        for word in words if program == "fleet" else ():
            if isinstance(command, click.Group):
                command = command.get_command(click.Context(command), word)
            assert command is not None, words
    assert not MEANT.keys() & set(main.list_commands(click.Context(main)))
