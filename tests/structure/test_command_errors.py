"""An error of a command has one of two forms, which its exit code tells: 2 with the usage, 1 without."""

import re
from pathlib import Path

import click
import pytest
from celery.bin.celery import celery
from click.testing import CliRunner
from psycopg import Error
from psycopg import OperationalError as PsycopgError
from psycopg.errors import UndefinedColumn, UndefinedTable
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from services.cli.base import CommandGroup
from services.cli.main import main
from services.cli.server_errors import describe_broker_error, describe_database_error
from services.cli.usage import PlainCommand, SuggestingGroup
from services.core.errors import InputInvalid, ShopfleetError, describe_server
from services.core.settings import get_settings
from tasks import commands
from tests.structure.test_command_options import CELERYS, COMMANDS
from tests.structure.test_examples import walk

ROOT = Path(__file__).parents[2]
USAGE = re.compile(
    r"Usage: ((?:fleet|celery -A tasks)[\w. -]*?) .*\n(?: .*\n)*Try '\1 --help' for help\.\n\nError: .+\n"
)
ONE_ERROR = re.compile(r"Error: .+\n")


OF_OTHER_PROGRAMS = ("celery flower", "celery multi", "celery inspect", "celery control")
"""Commands of Celery that hand unknown options on: to Tornado, to workers, to commands of a worker."""
OF_LONG_PROCESSES = {"beat", "flower", "shell", "worker"}
"""Their errors keep a traceback, because they are not errors of their usage."""
PATHS = [*dict(walk(main, "fleet")), *CELERYS]


@pytest.mark.filterwarnings("ignore:The parameter -d is used more than once")  # in Celery's own `events`
@pytest.mark.parametrize("path", [path for path in PATHS if path not in OF_OTHER_PROGRAMS])
def test_wrong_usage_has_one_form_in_every_command(path: str) -> None:
    program, *words = path.split()
    root, words = (main, words) if program == "fleet" else (celery, ["-A", "tasks", *words])
    refused = CliRunner().invoke(root, [*words, "--no-such"], prog_name=program)

    assert refused.exit_code == 2, refused.output
    assert USAGE.fullmatch(refused.stderr), refused.stderr


@pytest.mark.parametrize(
    ("fault", "code", "form"),
    [
        (click.UsageError("give one of --a and --b"), 2, USAGE),
        (click.BadParameter("'x' should be y", param_hint="--a"), 2, USAGE),
        (InputInvalid("there is no x"), 2, USAGE),
        (ShopfleetError("x is closed"), 1, ONE_ERROR),
        (click.ClickException("x is not reachable"), 1, ONE_ERROR),
        (OperationalError("", {}, Exception("connection refused\nIs the server running?")), 1, ONE_ERROR),
    ],
)
@pytest.mark.parametrize("group", [CommandGroup, SuggestingGroup])
def test_an_error_inside_a_command_has_the_form_of_its_exit_code(
    group: type[click.Group], fault: Exception, code: int, form: re.Pattern[str], engine: object
) -> None:
    if group is SuggestingGroup and not isinstance(fault, click.ClickException):
        return  # a plain command raises no error of the database; those of the project are the group's

    @click.group(cls=group)
    def fleet() -> None: ...

    @fleet.command("act", **({} if group is CommandGroup else {"cls": PlainCommand}))
    def act() -> None:
        raise fault

    refused = CliRunner().invoke(fleet, ["act"])

    assert refused.exit_code == code
    assert form.fullmatch(refused.stderr), refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize("kind", [UndefinedTable, UndefinedColumn])
def test_an_error_of_an_older_schema_names_the_migrations(kind: type[Error]) -> None:
    fault = ProgrammingError("", {}, kind("column shop_config.x does not exist"))

    assert describe_database_error(fault).endswith("has no tables yet, or older ones: run `fleet migrate`")


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ('FATAL:  password authentication failed for user "shopfleet_app"', "Check DATABASE_URL"),
        ('FATAL:  database "shopflet" does not exist', "Check DATABASE_URL"),
        ("fe_sendauth: no password supplied", "Check DATABASE_URL"),
        ("connection refused", "Is the fleet up?"),
    ],
)
def test_an_error_of_the_connection_says_what_to_check(engine: object, reason: str, advice: str) -> None:
    fault = OperationalError("", {}, PsycopgError(reason))

    assert f"{reason}. {advice}" in describe_database_error(fault)


@pytest.mark.parametrize(
    ("reason", "what", "advice"),
    [
        (
            "Command # 1 (LLEN ops) of pipeline caused error: command not allowed when used memory > "
            "'maxmemory'.",
            "takes no message",
            "Raise maxmemory",
        ),
        ("OOM command not allowed when used memory > 'maxmemory'", "takes no message", "Raise maxmemory"),
        ("it blocks connections that send: a memory or disk alarm", "takes no message", "list_alarms"),
        ("MISCONF Redis is configured to save RDB snapshots", "takes no message", "free space"),
        ("You can't write against a read only replica.", "takes no message", "the master"),
        ("invalid username-password pair or user is disabled.", "refuses the connection", "Check BROKER_URL"),
        ("NOPERM User ada has no permissions: not allowed", "refuses the connection", "Check BROKER_URL"),
        ("Error 111 connecting to 127.0.0.1:1. Connection refused.", "is not reachable", "Is the fleet up?"),
    ],
)
def test_an_error_of_the_broker_says_what_to_do(engine: object, reason: str, what: str, advice: str) -> None:
    error = describe_broker_error(ConnectionError(reason))

    assert error.startswith(f"the broker at {describe_server(get_settings().broker_url)} ")
    assert what in error
    assert advice in error
    assert "Check BROKER_URL" not in error or advice == "Check BROKER_URL"


def test_a_database_that_is_read_only_is_named_with_its_cause_and_what_to_do(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as fault, engine.connect() as tx:
        tx.exec_driver_sql("set transaction read only")
        tx.exec_driver_sql("update heartbeats set at = at")
    error = describe_database_error(fault.value)

    server = describe_server(get_settings().database_url)
    assert error.startswith(f"the database at {server} is read-only: cannot execute UPDATE in a read-only ")
    assert "If it is a standby, promote it" in error
    assert "default_transaction_read_only" in error


def test_every_command_is_of_the_kind_that_prints_its_usage() -> None:
    assert [path for path, command in COMMANDS.items() if not isinstance(command, PlainCommand)] == []


def test_no_command_ends_with_2_without_an_error_of_usage() -> None:
    """The code 2 is that of ``UsageError`` alone: no other exit has a number above 1."""
    files = [path for folder in ("services/cli", "tasks/commands") for path in (ROOT / folder).rglob("*.py")]
    exits = [
        (path.name, found)
        for path in files
        for found in re.findall(r"(?:exit|Exit|SystemExit)\(([^)]*)", path.read_text())
    ]

    assert len(exits) > 5
    assert [one for one in exits if re.search(r"\b[2-9]\b", one[1])] == []


@pytest.mark.filterwarnings("ignore:The parameter -d is used more than once")
@pytest.mark.parametrize(
    "fault", [ValueError("a\nb"), KeyError("a"), ImportError("a"), NotImplementedError()]
)
@pytest.mark.parametrize("name", sorted({*celery.commands} - OF_LONG_PROCESSES - {*vars(commands)}))
def test_an_error_inside_a_command_of_celery_is_one_sentence(
    name: str, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise fault

    runner, command = CliRunner(), celery.commands[name]
    runner.invoke(celery, ["-A", "tasks", name, "--help"])  # loads the app, which guards the commands
    attributes = {"callback": fail, "params": [], "no_args_is_help": False, "invoke_without_command": True}
    for attribute, value in attributes.items():
        monkeypatch.setattr(command, attribute, value, raising=False)
    refused = runner.invoke(celery, ["-A", "tasks", name], prog_name="celery")

    assert refused.exit_code == 2, refused.output
    assert USAGE.fullmatch(refused.stderr), refused.stderr
