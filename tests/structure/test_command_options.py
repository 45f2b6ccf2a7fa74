"""Options mean the same in every command, also in one added later."""

import json
import re
from collections import defaultdict
from types import MappingProxyType

import click
import pytest
from celery.bin.celery import celery
from click.core import ParameterSource
from click.testing import CliRunner
from sqlalchemy import Engine, insert

from services.alerts.incidents import Incident, record_incidents
from services.cli.main import main
from services.cli.usage import FORCE_NAMES, HELP_NAMES, name_options
from services.conversations.cache import store_entry
from services.core.db import MAX_COUNTED, transaction
from services.mail.suppressions import suppress
from services.mail.tables import mail_outbox
from services.payments.breaks import record_breaks
from services.shops.shops import add_shop
from tests.cli.conftest import harbour
from tests.ledger_rows import NOW, accept, new_event, plan
from tests.mail.test_round_trips import ROW
from tests.payments.test_round_trips import DAY, FIRST, stage
from tests.structure.list_rows import A_FLOOR_ORDER, A_LETTER, TWO_PEOPLE, TWO_RUNS
from tests.structure.test_examples import OPERATOR_COMMANDS, walk

__all__ = ["harbour"]

COMMANDS = {
    path: command
    for path, command in (*walk(main, "fleet"), *OPERATOR_COMMANDS)
    if not isinstance(command, click.Group) and path != "celery flower"
}

CELERYS = {path: one for path, one in walk(celery, "celery") if not path.startswith("celery amqp ")}
"""Also Celery's own commands. Those of its shell ``amqp`` read the settings before their words."""

WITHOUT_DRY_RUN = MappingProxyType({"fleet mail test": "sending one mail is all it does"})
"""Commands that change something and have no --dry-run, and why."""

NEEDS_REASON = frozenset(
    """
    alerts-quiet-add alerts-set alerts-unset audit-resolve incidents-resolve incidents-snooze mail-mark-sent
    mail-resend mail-suppressions-add mail-suppressions-remove privacy-confirm privacy-reject stock-adjust
    discard events-edit""".split()  # noqa: SIM905 - shorter than a list
)
"""Commands with which a person drops, hides, overrules or decides something for good."""

TAKES_REASON = frozenset(
    """
    alerts-quiet-remove backfill-run events-replay gate heal-run letters-hold jobs-pause jobs-resume jobs-set
    payments-repair backoff pause requeue resume unlock""".split()  # noqa: SIM905 - shorter than a list
)
"""Commands whose change one command takes back; ``gate`` checks itself when it needs the reason."""

WITHOUT_JSON = MappingProxyType(
    {
        "fleet alerts export": "its result is a file of YAML",
        "fleet audit export": "its result is a file",
        "fleet completion": "its output is a shell script",
        "fleet demo": "it runs until it is stopped",
        "fleet migrate": "its exit code is its result",
        "fleet up": "it runs until it is stopped",
    }
)
"""Commands without --json, and why."""

OF_TWO_TYPES = MappingProxyType(
    {
        "--for": "a time, or the incident of `fleet gate`",
        "--kind": "a type of mail, or a kind of cost",
        "--topic": "`fleet send` has samples, whose topics depend on its provider",
        "--wait": "the former name of `fleet mail test --timeout`; a flag elsewhere",
    }
)
"""Options whose values differ between commands, and why."""


def options(command: click.Command) -> set[str]:
    return {name for param in command.params for name in (*param.opts, *param.secondary_opts)}


def test_a_command_that_changes_something_has_a_dry_run() -> None:
    """A change is audited, so its command takes ``--actor``."""
    changing = {path for path, command in COMMANDS.items() if "--actor" in options(command)}
    without = {path for path in changing if "--dry-run" not in options(COMMANDS[path])}

    assert len(changing) > 25
    assert without == set(WITHOUT_DRY_RUN)


def test_a_reason_is_required_by_what_cannot_be_taken_back() -> None:
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for path, command in COMMANDS.items():
        for param in command.params:
            if "--reason" in param.opts and not command.hidden and not path.startswith("fleet books"):
                found[param.required].add("-".join(path.split()[1:]))

    assert found == {True: NEEDS_REASON, False: TAKES_REASON}


def test_whatever_changes_something_acts_without_a_question_if_told_to() -> None:
    """One option with four names; a command that asks nothing takes it too, so that a script may add it."""
    changing = {path for path, command in COMMANDS.items() if options(command) & {"--actor", "--dry-run"}}
    taking = {path: [p for p in COMMANDS[path].params if "-f" in p.opts] for path in COMMANDS}

    assert len(changing) > 50
    assert {path for path, params in taking.items() if params} == changing
    for path in changing:
        (param,) = taking[path]
        assert param.opts == [*FORCE_NAMES], path
        assert param.is_flag, path


@pytest.mark.parametrize("path", ["fleet jobs pause", "fleet payments repair", "fleet stock count"])
def test_a_command_that_asks_nothing_takes_the_option(path: str) -> None:
    with click.Context(COMMANDS[path], **HELP_NAMES) as ctx:  # click keeps the help option of the first use
        given, _, _ = COMMANDS[path].make_parser(ctx).parse_args(["-f", "-y"])
    (param,) = (p for p in COMMANDS[path].params if "-f" in p.opts)

    assert (given[param.name], param.expose_value) == (True, False)


def test_every_command_prints_json() -> None:
    without = {path for path, command in COMMANDS.items() if "--json" not in options(command)}

    assert without == set(WITHOUT_JSON)


def test_an_option_has_one_type_in_all_commands() -> None:
    types: dict[str, dict[str, str]] = defaultdict(dict)
    for path, command in COMMANDS.items():
        for param in command.params:
            for name in param.opts if isinstance(param, click.Option) else ():
                types[name].setdefault(param.type.name, path)

    assert {name for name, found in types.items() if len(found) > 1} == set(OF_TWO_TYPES)


@pytest.mark.filterwarnings("ignore:The parameter -d is used more than once")  # in Celery's own `events`
@pytest.mark.usefixtures("environment")  # some of Celery's own read the settings first
@pytest.mark.parametrize("path", [*COMMANDS, *CELERYS])
def test_every_command_has_a_short_help_option(path: str) -> None:
    """Also Celery's own; its other programs, such as ``flower``, are among its commands."""
    program, *words = path.split()
    root, words = (main, words) if program == "fleet" else (celery, ["-A", "tasks", *words])
    if path in CELERYS:
        CELERYS[path]._help_option = None  # click keeps that of the first use, here without the root command
    shown = CliRunner().invoke(root, [*words, "-h"], prog_name=program)

    assert shown.exit_code == 0, shown.output
    if words[-1] != "multi":  # it reads its words itself, as the former program celeryd-multi
        assert "-h, --help" in shown.output


def in_usage(path: str, command: click.Command) -> list[str]:
    """Return the required parameters of ``command``, as its help shows them."""
    ctx = click.Context(command, info_name=path)
    required = [param for param in command.params if param.required]
    return [
        f"{max(param.opts, key=len)} " * isinstance(param, click.Option)
        + param.make_metavar(ctx) * (not getattr(param, "is_flag", False))
        for param in required
    ]


OPTIONS = [
    (command, str(param.name), name)
    for command in COMMANDS.values()
    for param in command.params
    for name in (param.opts if isinstance(param, click.Option) else ())
    if name.startswith("--") and not getattr(param, "is_flag", False)
]


def test_an_error_names_the_option_that_was_typed() -> None:
    assert len(OPTIONS) > 200
    for command, param, name in OPTIONS:
        with click.Context(command) as ctx:
            ctx.meta["shopfleet.given"] = [name, "x"]
            for field in {param, name.lstrip("-").replace("-", "_")}:
                fault = f"2 faults:\n  {field}='x' should be y\n  {field} is empty\n  other='x' should be y"
                ctx.set_parameter_source(param, ParameterSource.DEFAULT)
                assert name_options(fault) == fault, "it came from no option"
                ctx.set_parameter_source(param, ParameterSource.COMMANDLINE)
                assert name_options(fault) == fault.replace(f"  {field}", f"  {name}")


@pytest.mark.parametrize("path", COMMANDS)
def test_an_option_that_is_given_twice_is_refused_unless_it_takes_several(path: str) -> None:
    words = path.split()[1:] if path.startswith("fleet") else []
    root = main if path.startswith("fleet") else COMMANDS[path]
    for param in COMMANDS[path].params:
        if not isinstance(param, click.Option) or param.is_flag:
            continue
        name = max(param.opts, key=len)
        refused = CliRunner().invoke(root, [*words, name, "a", name, "b"])
        is_named = f"Error: {name} is given more than once" in refused.output
        assert is_named != param.multiple, (name, refused.output)
        assert refused.exit_code == 2, refused.output


REQUIRING = {path: names for path, command in COMMANDS.items() if (names := in_usage(path, command))}


@pytest.mark.parametrize("path", REQUIRING)
def test_a_command_without_options_names_every_one_that_is_missing(path: str) -> None:
    assert len(REQUIRING) > 40
    words = path.split()[1:] if path.startswith("fleet") else []
    refused = CliRunner().invoke(main if path.startswith("fleet") else COMMANDS[path], words)

    assert refused.exit_code == 2, refused.output
    (line,) = (line for line in refused.output.splitlines() if line.startswith("Error: Missing "))
    assert [name for name in REQUIRING[path] if name.strip() not in line] == []


@pytest.mark.parametrize("path", [path for path, names in REQUIRING.items() if "--reason TEXT" in names])
@pytest.mark.parametrize("reason", ["", " "])
def test_an_empty_reason_is_named_with_all_that_is_missing(path: str, reason: str) -> None:
    words = path.split()[1:] if path.startswith("fleet") else []
    command = main if path.startswith("fleet") else COMMANDS[path]
    refused = CliRunner().invoke(command, [*words, "--reason", reason])

    assert refused.exit_code == 2, refused.output
    error = refused.output.splitlines()[-1]
    assert "--reason is empty: give it a text" in error
    assert "--reason TEXT" not in error
    assert [name for name in REQUIRING[path] if name != "--reason TEXT" and name.strip() not in error] == []


LISTS = [path for path, command in COMMANDS.items() if any(p.name == "limit" for p in command.params)]
MORE = {
    "breaks": ("--shop", "harbour", "--day", DAY.day.isoformat()),
    "preview": ("reminders", "--shop", "harbour"),
    "show": ("--shop", "harbour"),
}
"""What a list needs in its command line."""


@pytest.fixture
def two_of_each(engine: Engine, harbour: str) -> str:
    """Two rows for each list."""
    accept(engine, new_event(1), new_event(2))
    plan(engine, "privacy_export", 2)
    with transaction(engine) as tx:
        add_shop(tx, slug="mill", name="Mill", timezone="UTC", currency="CAD", now=NOW)
        record_incidents(tx, [Incident(1, "clocks_apart", period, "P2", "x") for period in "ab"], NOW)
        for number in "12":
            tx.execute(insert(mail_outbox).values(**ROW | {"dedupe_key": number, "token": number}))
            tx.exec_driver_sql(
                "insert into job_runs (job, period, due_at, status, origin, started_by, request_id) "
                "values ('audit-verify', %(period)s, now(), 'done', 'cli', 'ada', '')",
                {"period": number},
            )
            tx.exec_driver_sql(
                "insert into request_errors values (%(n)s, now(), null, '/', 500, 'KeyError', '', '', '{}')",
                {"n": number},
            )
            stage(tx, provider_id=number)
            tx.exec_driver_sql(TWO_RUNS, {"period": number})
            tx.exec_driver_sql(TWO_PEOPLE, {"id": number})
            suppress(tx, 1, f"ada{number}@example.com", "bounced", "sendgrid event 1", NOW)
            tx.exec_driver_sql(A_LETTER, {"week": number})
            tx.exec_driver_sql(A_FLOOR_ORDER, {"n": number})
            store_entry(tx, (1, f"+1555000000{number}"), 0, "a-page", NOW)
        record_breaks(tx, FIRST)
    return harbour


@pytest.mark.usefixtures("two_of_each")
@pytest.mark.parametrize("path", LISTS)
def test_a_list_that_is_cut_says_how_many_there_are(path: str) -> None:
    words = [*path.split()[1:], *MORE.get(path.rsplit(maxsplit=1)[-1], ())]
    cut = CliRunner().invoke(main, [*words, "--limit", "1", "--json"])
    whole = CliRunner().invoke(main, [*words, "--limit", "9"])

    assert re.fullmatch(r"1 of \d shown: --limit N\n", cut.stderr), cut.output
    assert json.loads(cut.stdout)
    assert "shown" not in whole.output


def test_rows_of_a_cut_list_are_counted_up_to_a_limit(engine: Engine, harbour: str) -> None:
    plan(engine, "order_ingest", MAX_COUNTED + 50)
    cut = CliRunner().invoke(main, ["work", "list", "--limit", "2"])

    assert "2 of more than 10,000 shown: --limit N" in cut.stderr
